"""What a caption finds: official files, rates, and what each column gives the model."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from fashion_rag.evaluation.columns import CLAIM, COLUMNS_BY_KEY, PROTOCOL, SEVERAL, garments_needed
from fashion_rag.evaluation.dresscode import Sample
from fashion_rag.evaluation.report import make_table, to_json, to_markdown
from fashion_rag.evaluation.results import Measured
from fashion_rag.evaluation.retrieval import (
    check_ranking,
    has_pred_files,
    own_garment_found,
    rank_online,
    read_pred_files,
    retrieval_rates,
    rows_of,
)
from fashion_rag.evaluation.world import Verdict
from fashion_rag.retriever.photos.catalogue import Garment
from fashion_rag.retriever.store.index import GarmentIndex
from fashion_rag.training.dresscode import Pair

# Two garments share the caption x.
CAPTIONS = {"a": "x", "b": "x", "c": "y", "d": "z", "e": "z"}
RANKING = {"x": ["a", "c", "b", "d"], "y": ["d", "c", "a", "b"], "z": ["a", "b", "c", "d"]}


def sample(file: str = "a", chunks: tuple[str, ...] = ("x",)) -> Sample:
    return Sample(Pair("dresses", "1", "1", chunks), file, None)


def test_rates_of_a_small_ranking():
    rates = retrieval_rates(RANKING, CAPTIONS, ["x", "y", "z", "x"])
    assert {name: rates[name].tolist() for name in ("recall@1", "recall@3", "recall@5")} == {
        "recall@1": [1, 0, 0],
        "recall@3": [1, 1, 0],
        "recall@5": [1, 1, 1],
    }
    assert rates["precision@3"].tolist() == pytest.approx([2 / 3, 1 / 3, 0])
    # Half the share of the garments with this caption: of x one of two, of z one of two.
    assert rates["official_precision@1"].tolist() == pytest.approx([1 / 4, 0, 0])
    assert rates["official_precision@5"].tolist() == pytest.approx([1 / 2, 1 / 2, 1 / 4])


def test_the_official_precision_has_the_published_relation_to_recall():
    """With one garment a caption it is half the recall: .2433 to .4872 for dresses, three chunks,
    where 1794 queries have 874 hits and 436.5 is published for the sum."""
    captions = {f"{n}": f"c{n}" for n in range(1794)} | {"twin": "c0", "other": "c1"}
    ranking = {f"c{n}": [f"{n if n < 874 else (n + 1) % 1794}"] for n in range(1794)}
    rates = retrieval_rates(ranking, captions, list(ranking))
    assert rates["recall@1"].mean() == pytest.approx(0.4872, abs=1e-4)
    assert rates["official_precision@1"].sum() == pytest.approx(436.5)


def test_own_garments():
    samples = [sample("a"), sample("b"), sample("d", ("y",))]
    assert own_garment_found(RANKING, samples, 3, 1).tolist() == [1, 0, 1]
    assert own_garment_found(RANKING, samples, 3, 3).tolist() == [1, 1, 1]


def test_columns_pick_garments():
    chosen = {key: column.pick(sample("c"), RANKING, 3) for key, column in COLUMNS_BY_KEY.items()}
    assert chosen == {
        "k0": (),
        "k1": ("a",),
        "k2": ("a", "c"),
        "k3": ("a", "c", "b"),
        "k1_without_own": ("a",),
        "k1_captioned": ("a",),
        "k2_captioned": ("a", "c"),
        "k3_captioned": ("a", "c", "b"),
        "k3_captioned_without_own": ("a", "b", "d"),
        "oracle": ("c",),
        "oracle_parsed": ("c",),
        "vae": (),
    }
    own_first = {column.key: column.pick(sample("a"), RANKING, 3) for column in CLAIM}
    assert own_first["k1"] == ("a",) and own_first["k1_without_own"] == ("c",)
    assert garments_needed(PROTOCOL) == garments_needed(CLAIM) == 3
    assert garments_needed(SEVERAL) == 4
    assert garments_needed(CLAIM[4:5]) == 2


def test_captions_are_the_first_sorted_chunks():
    one = sample(chunks=("short sleeves", "black dress", "bow"))
    assert [one.caption(n) for n in (1, 2, 3)] == [
        "black dress",
        "black dress, bow",
        "black dress, bow, short sleeves",
    ]


def test_official_files(tmp_path):
    root, folder = tmp_path / "data", tmp_path / "files"
    (root / "dresses/cleaned_inshop_imgs").mkdir(parents=True)
    (root / "dresses/cleaned_inshop_imgs/01_1_cleaned.jpg").touch()
    folder.mkdir()
    content = {
        "metrics": {"recall_1": 0.5},
        "pred_files": {"a, b": [f"dresses/cleaned_inshop_imgs/0{n}_1_cleaned.jpg" for n in (1, 2)]},
    }
    (folder / "test_dresses_double.json").write_text(json.dumps(content))
    assert has_pred_files(folder, 2) and not has_pred_files(folder, 3)
    assert read_pred_files(folder, "dresses", 2, root) == {
        "a, b": ["dresses/cleaned_inshop_imgs/01_1_cleaned.jpg", "dresses/images/02_1.jpg"]
    }
    with pytest.raises(FileNotFoundError, match="test_dresses_triplet.json .*test_dresses_double"):
        read_pred_files(folder, "dresses", 3)
    (folder / "test_dresses_double.json").write_text('{"a": []}')
    with pytest.raises(ValueError, match="pred_files"):
        read_pred_files(folder, "dresses", 2)


def test_a_caption_that_finds_too_little_is_named():
    check_ranking(RANKING, [sample()], 3, 4)
    with pytest.raises(ValueError, match="'x' of garment 1 .* 4 retrieved garments, expected 5"):
        check_ranking(RANKING, [sample()], 3, 5)
    with pytest.raises(ValueError, match="'w' .* 0 retrieved"):
        check_ranking(RANKING, [sample(chunks=("w",))], 3, 1)


class WordEncoder:
    """Texts to axes; fits `GarmentIndex.in_memory`."""

    name, fingerprint, dim, preprocessing = "memory", "", 3, {}

    def encode_texts(self, texts):
        return torch.eye(3)[[int(text) for text in texts]]


def test_online_retrieval_is_among_the_rows_given():
    vectors = torch.nn.functional.normalize(
        torch.tensor([[1.0, 0, 0], [1, 0.2, 0], [1, 0.4, 0], [0, 1, 0], [0, 0, 1]]), dim=1
    )
    garments = [Garment(id=f"g{n}", file=f"{n}.jpg", category="dresses") for n in range(5)]
    index = GarmentIndex.in_memory(garments, vectors)
    rows = rows_of(index, ["2.jpg", "0.jpg", "3.jpg"])
    assert rows.tolist() == [0, 2, 3]
    ranking = rank_online(index, WordEncoder(), ["0", "1", "0"], rows)
    assert ranking == {"0": ["0.jpg", "2.jpg", "3.jpg"], "1": ["3.jpg", "2.jpg", "0.jpg"]}
    with pytest.raises(ValueError, match="lacks 1 of 2 test garments, such as 7.jpg"):
        rows_of(index, ["0.jpg", "7.jpg"])


def test_a_category_without_a_sample_has_no_figures():
    """Of few pairs none may be held out of a category: null in the JSON, empty in the table."""
    captions = {"a": "x"}
    rates = {
        "dresses": retrieval_rates({"x": ["a"]}, captions, ["x"]),
        "lower_body": retrieval_rates({}, {}, []),
    }
    measured = Measured([sample()], {"k1": {"ssim": np.array([0.5])}})
    columns = [COLUMNS_BY_KEY["k1"]]
    table = make_table("paired", 3, columns, measured, rates, {1: np.ones(1), 3: np.zeros(0)})
    content = json.loads(json.dumps(to_json({}, [table], [], {})))["tables"][0]
    assert content["retrieval"]["dresses"]["recall@1"]["value"] == 1
    assert content["retrieval"]["all"]["recall@1"]["count"] == 1
    assert set(content["retrieval"]["lower_body"].values()) == {None}
    assert content["own_recall"]["1"]["count"] == 1 and content["own_recall"]["3"] is None
    lines = to_markdown("few", {}, [table], Verdict(), {}).splitlines()
    (empty,) = [line for line in lines if line.startswith("| lower_body |")]
    assert empty.replace(" ", "") == "|lower_body|0|" + "|" * 15
    (own,) = [line for line in lines if line.startswith("| own garment |")]
    assert own.startswith("| own garment | 1 samples | 1.000 |  |")
