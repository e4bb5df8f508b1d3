"""What a CLIP in training is shown."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

pytest.importorskip("accelerate")
pytest.importorskip("aggdraw")

from fashion_rag.training import stages as cli  # noqa: E402
from fashion_rag.training.clip import ClipStream, ClipTask, recoloured  # noqa: E402
from fashion_rag.training.dresscode import DressCode, caption  # noqa: E402

from .training_small import CLIP, small_world  # noqa: E402

SIZE = 32


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return small_world(tmp_path_factory.getbasetemp())


def config(**changes):
    run = {"steps": 2, "batch_size": 3, "learning_rate": 1e-3}
    return cli.parse_stage({"stage": "clip", "model": CLIP, "run": run, **changes})[1]


def stream(world: Path, **changes) -> ClipStream:
    return ClipStream(DressCode(world), config(**changes), SIZE, 77)


def test_batches_of_one_category(world):
    seen = stream(world, by_category=True)
    categories = [seen.data.pairs[seen._index(place)].category for place in range(18)]
    batches = [set(categories[first : first + 3]) for first in range(0, 18, 3)]
    assert all(len(batch) == 1 for batch in batches)
    # Every pair once an epoch, in another order the next time.
    epochs = [[seen._index(place) for place in range(first, first + 9)] for first in (0, 9)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(9))
    assert epochs[0] != epochs[1]


def test_the_worn_garment_is_seen_at_the_head_of_a_batch(world):
    seen = stream(world, worn_share=0.3)
    assert [bool(seen[place]["worn"].any()) for place in range(6)] == [True, False, False] * 2
    assert not stream(world, worn_weight=0.0)[0]["worn"].any()


def test_what_is_kept_in_memory_is_what_was_decoded(world):
    kept, plain = stream(world, cache=True), stream(world)
    for place in [*range(9), *range(9)]:
        for name, tensor in plain[place].items():
            assert torch.equal(kept[place][name], tensor)


def test_words_are_as_heavy_as_they_are_rare(world):
    seen = stream(world)
    rarity = seen.rarity(49408)
    captions = [caption(pair.chunks) for pair in seen.data.pairs]
    for word in ("dress", "plain", "sleeves"):
        (token,) = seen._tokenizer.encode(word)
        count = sum(word in text.replace(",", "").split() for text in captions)
        expected = math.log(len(captions) / count) if count else 0.0
        assert rarity[token].item() == pytest.approx(expected)


def test_the_words_loss_is_least_where_the_words_are_named(world):
    task = ClipTask(config(words_weight=1.0), world)
    tokens = task.stream.tokenize([caption(task.stream.data.pairs[0].chunks)])
    classes = task.classes[tokens[task.rarity[tokens] > 0]]
    with torch.no_grad():
        task.words_head.weight.zero_()
        task.words_head.bias.zero_()
        unknown = task._words_loss(torch.zeros(1, 32), tokens).item()
        assert unknown == pytest.approx(math.log(len(task.words_head.bias)), rel=1e-5)
        task.words_head.bias[classes] = 5
        assert task._words_loss(torch.zeros(1, 32), tokens) < unknown - 1


def test_recoloured_photos_keep_white_and_black():
    torch.manual_seed(0)
    photos = torch.randint(0, 256, (16, 3, 8, 8), dtype=torch.uint8)
    photos[..., :2], photos[..., 2:4] = 0, 255
    other = recoloured(photos)
    assert other.dtype == torch.uint8
    assert (other[..., :2] == 0).all()
    assert (other[..., 2:4] == 255).all()
    assert (other[..., 4:] != photos[..., 4:]).float().mean() > 0.9


def test_a_share_beyond_the_batch_is_refused():
    with pytest.raises(ValueError, match=r"worn_share is 1\.5; expected 0 to 1"):
        config(worn_share=1.5)
