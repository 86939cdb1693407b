"""The record and the tables of gliobench accuracy."""

import json

import numpy as np
import pytest

from gliobench.accuracy import SetAccuracy, TileSet
from gliobench.backends import Segmenter
from gliobench.metrics import difference, figures, score
from gliobench.scorecard import as_values, markdown
from gliorun.model.card import ModelCard

CARD = ModelCard("net", 64, 0.25, None, precision="INT8")


def scores(shift, count=4):
    random = np.random.default_rng(1)
    truths = [(random.random((20, 20)) < 0.15).astype(np.uint8) for _ in range(count)]
    return [score(f"i{n}", f"p{n // 2}", np.roll(t, shift, 1), t) for n, t in enumerate(truths)]


def results(count=4, stress=True):
    """Return a perfect network and a shifted baseline, each on two sets."""
    perfect, baseline = scores(0, count), scores(3, count)
    return [
        SetAccuracy(
            model=Segmenter(name, lambda image: image, card, "ab" if card else ""),
            tiles=of_set,
            seen="no",
            scores=of_model,
            figures=figures(of_model),
            to_baseline=difference(of_model, baseline) if card else None,
            stress={"blur": figures(baseline)} if stress else {},
        )
        for name, card, of_model in (("net.xml", CARD, perfect), ("otsu", None, baseline))
        for of_set in (TileSet("gliomas", "val"), TileSet("others", "train"))
    ]


def test_the_record_has_its_schema_and_survives_json():
    values = json.loads(json.dumps(as_values(results(), "card")))
    assert set(values) == {"format", "kind", "made", "machine", "versions", "figures"}
    assert (values["format"], values["kind"]) == (1, "accuracy")
    assert values["machine"]["cores"] >= 1
    assert {"gliorun", "numpy", "openvino"} <= set(values["versions"])
    values = values["figures"]
    assert set(values) == {"colour", "models", "results"}
    assert values["colour"] == "card"
    assert values["models"] == [
        {"name": "net.xml", "sha256": "ab", "card": "net", "precision": "INT8"},
        {"name": "otsu", "sha256": "", "card": "", "precision": ""},
    ]
    first, *_, last = values["results"]
    assert set(first) == {
        "model", "set", "split", "seen", "figures", "to_baseline", "stress", "images",
    }  # fmt: skip
    assert (first["model"], first["set"], first["split"]) == ("net.xml", "gliomas", "val")
    assert set(first["figures"]) == {
        "images", "nucleus_share", "mean", "pooled", "density_error_points",
        "density_bias_points", "density_p95_points", "density_worst_points", "class_agreement",
        "confusion", "resampled", "intervals",
    }  # fmt: skip
    five = {"accuracy", "dice", "precision", "recall", "f1"}
    assert set(first["figures"]["mean"]) == set(first["figures"]["pooled"]) == five
    assert set(first["figures"]["intervals"]) == {
        "dice", "density_error_points", "density_bias_points", "class_agreement",
    }  # fmt: skip
    assert first["to_baseline"]["baseline"] == "otsu"
    assert last["to_baseline"] is None
    assert list(first["stress"]) == ["blur"]
    assert [image["id"] for image in first["images"]] == ["i0", "i1", "i2", "i3"]
    assert first["images"][0]["counts"]["mask_only"] == 0


def test_the_record_names_no_path():
    assert "/" not in json.dumps(
        [r["model"] for r in as_values(results(), "card")["figures"]["results"]]
    )


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("stress", [False, True])
def test_every_table_has_as_many_cells_in_each_row(count, stress):
    tables = [
        block.splitlines()
        for block in markdown(results(count, stress)).split("\n\n")
        if block.startswith("|")
    ]
    assert len(tables) == (6 if stress else 4)
    for table in tables:
        assert len({row.count("|") for row in table}) == 1
        assert set(table[1]) <= set("| -")
        assert len(table) >= 4 - (table[0].startswith("| change"))


def test_each_set_says_what_an_empty_mask_would_score():
    text = markdown(results())
    share = figures(scores(0)).nucleus_share
    assert f"an empty mask has {1 - share:.1%} accuracy" in text
    assert "drawn over 2 patients" in text


def test_figures_stand_in_their_columns():
    head, _, net, otsu = [
        [cell.strip() for cell in row.strip("|").split("|")]
        for row in markdown(results(stress=False)).splitlines()
        if row.startswith("|")
    ][:4]
    assert head[2:5] == ["Dice", "more than otsu", "density error, points"]
    assert net[2] == "1.000 [1.000, 1.000]"
    assert otsu[3] == "–"
    assert float(net[3].split()[0]) == pytest.approx(1 - figures(scores(3)).mean.dice, abs=5e-4)
    assert net[4] == "0.00 [0.00, 0.00]"
