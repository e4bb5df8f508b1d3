"""The parser's stage: windows of photos with their labels, its loss, and the folder it writes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("accelerate")
pytest.importorskip("aggdraw")
pytest.importorskip("transformers")

from fashion_rag.adapter.person.masks import LABELS  # noqa: E402
from fashion_rag.adapter.person.parsing import load_parser  # noqa: E402
from fashion_rag.miniature.dresscode import render  # noqa: E402
from fashion_rag.training.config import parse  # noqa: E402
from fashion_rag.training.parser import (  # noqa: E402
    MEAN,
    STD,
    Parser,
    ParserTask,
    dice,
    mirrored,
    photo_and_labels,
)

RUN = {"steps": 2, "batch_size": 2, "learning_rate": 1e-3}
TINY = {
    "hidden_sizes": [8, 8, 16, 16],
    "depths": [1, 1, 1, 1],
    "num_attention_heads": [1, 1, 2, 2],
    "decoder_hidden_size": 16,
}


def config(**changes) -> Parser:
    content = {"run": RUN, "model": TINY, "size": [64, 48], "input": [96, 80]} | changes
    return parse(Parser, content)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    render(folder, 9, 3, size=(96, 128), processes=1)
    return folder


def test_windows_show_the_labels_of_their_pixels(world):
    """A window of a photo that is its own label map, in grey, shows just its labels."""
    task = ParserTask(config(small=0.0, whole=0.0), world)

    class Grey(type(task.stream.data)):
        def photo(self, pair):
            from PIL import Image

            return Image.fromarray(self.labels(pair) * 14).convert("RGB")

    task.stream.data.__class__ = Grey
    agreed = []
    for position in range(24):
        sample = task.stream[position]
        pixels, labels = sample["pixels"], sample["labels"]
        assert pixels.shape == (3, 64, 48) and pixels.dtype == torch.uint8
        assert labels.shape == (64, 48) and labels.dtype == torch.uint8
        left, right = LABELS["left_arm"], LABELS["right_arm"]
        same = torch.where((labels == left) | (labels == right), 0, labels)
        # Another light keeps the order of greys: within a label they hardly vary.
        for label in same.unique():
            where = same == label
            if where.sum() > 60 and label not in (0, left, right):
                values = pixels[0][where].float()
                agreed.append(((values - values.median()).abs() < 12).float().mean())
    assert len(agreed) > 20 and np.mean(agreed) > 0.75


def test_a_position_gives_the_same_window_again(world):
    stream = ParserTask(config(), world).stream
    for position in (0, 7, 1234):
        first, again = stream[position], stream[position]
        assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(stream[0]["pixels"], stream[len(stream.data)]["pixels"])


def test_left_and_right_change_places_in_a_mirror():
    labels = torch.tensor([[LABELS["left_arm"], LABELS["right_shoe"], LABELS["dress"]]]).byte()
    assert mirrored(labels).tolist() == [
        [LABELS["right_arm"], LABELS["left_shoe"], LABELS["dress"]]
    ]
    assert torch.equal(mirrored(mirrored(labels)), labels)


def test_dice_is_one_for_the_truth_and_counts_small_labels_alike():
    labels = torch.zeros(1, 10, 10, dtype=torch.int64)
    labels[0, 0, 0] = 3
    truth = torch.nn.functional.one_hot(labels, 18).movedim(-1, 1).float()
    assert dice(truth, labels).item() == pytest.approx(1)
    without = torch.zeros_like(truth)
    without[:, 0] = 1
    assert dice(without, labels).item() == pytest.approx((0 + 2 * 99 / 199) / 2)


def test_the_folder_sees_what_the_task_sees(world, tmp_path):
    """Exported in half precision, with its batch norms settled, and read by the pack's own reader:
    the same mean and std, size and resizing as in the training."""
    torch.manual_seed(0)
    task = ParserTask(config(input=[128, 96]), world)
    loss, figures = task({k: torch.stack([v, v]) for k, v in task.stream[0].items()})
    assert loss.requires_grad and 0 < figures["dice"] < 1
    task.export(tmp_path)
    parser = load_parser(tmp_path)
    assert parser.table == tuple(range(18)) and parser.preprocessing.size == (128, 96)
    assert parser.preprocessing.mean == MEAN and parser.preprocessing.std == STD
    pair = task.held_out.pairs[0]
    pixels, _ = photo_and_labels(task.held_out, pair, (128, 96))
    task.eval()
    with torch.no_grad():
        inside = task._logits(pixels[None]).argmax(dim=1)[0]
    outside = torch.from_numpy(parser.labels_of(task.held_out.photo(pair)))
    assert (inside == outside).float().mean() > 0.99
    assert task.preview().size == (3 * 96 // 2, 3 * 128 // 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": [60, 48]}, "size is .60, 48.*multiples of 16"),
        ({"windows": [1.0, 0.5]}, "least and the largest"),
        ({"small": 2.0}, "small is 2.0"),
    ],
)
def test_a_configuration_that_does_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        config(**changes)


def test_a_model_that_is_none(world):
    with pytest.raises(ValueError, match="no SegformerConfig"):
        ParserTask(config(model={"hidden_sizes": [8, 8], "num_attention_heads": [3, 1]}), world)
