"""gliobench accuracy: which tiles, in which colours, against what; and as it is typed."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import typed
from gliobench import cli
from gliobench.accuracy import TileSet, accuracy, choose, normaliser, seen, trained_on
from gliobench.backends import OTSU, Segmenter, open_segmenters, reference_model, shipped_models
from gliobench.stains import COMPARED
from gliobench.stress import CHANGES
from glioexport.dataset import as_runtime, load_tiles, read_index, stain_statistics
from gliorun import demo
from gliorun.errors import GlioError
from gliorun.measuring.stain import ROUNDS
from gliorun.model.card import ModelCard
from gliorun.model.stainstatistic import StainStatistic
from guides import ROOT

TARGET = StainStatistic((0.32, 0.69, 0.35))
TILES = (
    # set, id, patient, split, height, width, share of nuclei wanted
    ("gliomas", "g1", "anna", "val", 90, 120, 0.10),
    ("gliomas", "g2", "anna", "val", 120, 90, 0.20),
    ("gliomas", "g3", "bert", "val", 100, 100, 0.25),
    ("gliomas", "g4", "cleo", "train", 150, 110, 0.15),
    ("others", "o1", "", "val", 130, 130, 0.20),
    ("others", "o2", "", "train", 130, 130, 0.20),
)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Folder of six drawn tiles of two sets with an index.csv."""
    folder = tmp_path_factory.mktemp("drawn")
    rows = []
    for seed, (source, name, patient, split, height, width, share) in enumerate(TILES):
        tissue = demo.draw_tissue(np.full((height, width), share, np.float32), seed)
        Image.fromarray(tissue.pixels).save(folder / f"{name}.png")
        Image.fromarray(tissue.nuclei * 255).save(folder / f"{name}-label.png")
        rows.append(
            {
                "set": source, "id": name, "patient": patient, "split": split, "licence": "CC0",
                "image": f"{name}.png", "label": f"{name}-label.png",
            }
        )  # fmt: skip
    with (folder / "index.csv").open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return folder


def card(**changes):
    values = {"name": "x", "tile_px": 64, "mpp": 0.25, "colour_target": TARGET, **changes}
    return ModelCard(**values)


def dark(image):
    """A model: nucleus where the red is dark."""
    return (image[..., 0] < 110).astype(np.uint8)


def empty(image):
    return np.zeros(image.shape[:2], np.uint8)


class Watching:
    """A model that keeps what it is shown."""

    def __init__(self):
        self.seen = []

    def __call__(self, image):
        self.seen.append(image)
        return dark(image)


VALIDATED_ON = ("tcga_kong36", "tnbc_curie")
"""The sets that the cards of the shipped models and the README have figures of; the labelled tiles
have had further ones since."""


def run(folder, *models, **changes):
    options = {"sets": (), "split": "val", "colour": "card", "stress": False, **changes}
    return accuracy(folder, models, say=lambda line: None, **options)


def test_a_model_that_draws_the_labels_is_perfect(drawn):
    truths = {t.pixels.tobytes(): t.nuclei for t in load_tiles(choose(drawn, (), "all"), {}, None)}
    results = run(drawn, Segmenter("truth", lambda image: truths[image.tobytes()]), split="all")
    assert {str(r.tiles) for r in results} == {
        "gliomas val", "gliomas train", "others val", "others train",
    }  # fmt: skip
    for result in results:
        assert result.figures.mean.dice == result.figures.pooled.dice == 1
        assert result.figures.density_worst_points == 0
        assert result.figures.class_agreement == 1


def test_sets_and_splits_are_summed_up_apart_in_the_order_of_the_models(drawn):
    results = run(drawn, Segmenter("a", dark), Segmenter("b", empty), split="all")
    assert [(r.model.name, str(r.tiles), r.figures.images) for r in results] == [
        (name, tiles, count)
        for name in "ab"
        for tiles, count in (
            ("gliomas val", 3), ("gliomas train", 1), ("others val", 1), ("others train", 1),
        )
    ]  # fmt: skip
    assert results[0].figures.resampled == "2 patients"


def test_differences_are_to_the_last_model(drawn):
    first, _, last, _ = run(drawn, Segmenter("a", dark), Segmenter("b", empty))
    assert last.to_baseline is None
    assert last.figures.mean.dice == 0
    assert first.to_baseline.dice == pytest.approx(first.figures.mean.dice)
    assert first.to_baseline.dice > 0.5


def test_a_network_sees_what_the_runtime_shows_it_and_the_baseline_the_raw_tiles(drawn):
    network, baseline = Watching(), Watching()
    run(drawn, Segmenter("n", network, card()), Segmenter("otsu", baseline))
    raw = load_tiles(choose(drawn, (), "val"), {}, None)
    slides = {}
    for tile in raw:
        slides.setdefault(tile.entry.stain_group, []).append(tile.pixels)
    asked, shown = Watching(), []
    for images in slides.values():
        shown += as_runtime(images, asked, TARGET)
    for normalised, image in zip(network.seen, [*asked.seen, *shown], strict=True):
        assert np.array_equal(normalised, image)
    for normalised, tile in zip(baseline.seen, raw, strict=True):
        assert np.array_equal(normalised, tile.pixels)


def test_a_change_comes_before_colour_is_measured(drawn):
    network = Watching()
    run(drawn, Segmenter("n", network, card()), sets=["others"], stress=True)
    (tile,) = load_tiles(choose(drawn, ["others"], "val"), {}, None)
    times = ROUNDS + 1  # to see where the ground is, and then for the mask
    assert len(network.seen) == times * (1 + len(CHANGES))
    for change, shown in zip(CHANGES.values(), network.seen[2 * times - 1 :: times], strict=True):
        (wanted,) = as_runtime([change(tile.pixels)], Watching(), TARGET)
        assert np.array_equal(shown, wanted)


def test_stress_gives_figures_for_each_change_and_a_model_suffers(drawn):
    set_accuracy = run(drawn, Segmenter("a", dark), stress=True)[0]
    assert list(set_accuracy.stress) == list(CHANGES)
    assert set_accuracy.stress["both stains × 0.7"].mean.dice < set_accuracy.figures.mean.dice - 0.1
    assert run(drawn, Segmenter("a", dark))[0].stress == {}


def test_the_worst_tiles_come_first(drawn):
    set_accuracy = run(drawn, Segmenter("a", lambda image: dark(image) * (image.shape[0] != 100)))[
        0
    ]
    dices = [shown.score.dice for shown in set_accuracy.worst]
    assert dices == sorted(dices)
    assert set_accuracy.worst[0].tile.entry.id == "g3"


def test_no_colour_is_the_tile_as_it_is(drawn):
    network = Watching()
    run(drawn, Segmenter("n", network, card()), sets=["others"], colour="none")
    (tile,) = load_tiles(choose(drawn, ["others"], "val"), {}, None)
    assert np.array_equal(network.seen[0], tile.pixels)


@pytest.mark.parametrize("name", COMPARED)
def test_other_methods_aim_at_the_training_tiles_as_the_network_saw_them(drawn, name):
    trained = card(training={"data": [{"set": "others", "licence": "CC0"}]})
    method = COMPARED[name]
    statistics = stain_statistics(read_index(drawn))
    (learnt,) = load_tiles(choose(drawn, ["others"], "train"), statistics, TARGET)
    (tile,) = load_tiles(choose(drawn, ["others"], "val"), {}, None)
    wanted = method.move(tile.pixels, method.fit([tile.pixels]), method.fit([learnt.pixels]))
    (normalised,) = normaliser(name, Segmenter("n", Watching(), trained), drawn)([tile.pixels])
    assert np.abs(normalised.astype(int) - wanted).max() <= 1


def test_a_slide_of_glass_goes_through_every_method_unchanged(drawn):
    glass = np.full((80, 80, 3), 240, np.uint8)
    for name in ("card", "none", *COMPARED):
        model = Segmenter("n", Watching(), card())
        assert np.array_equal(normaliser(name, model, drawn)([glass])[0], glass)


def test_what_training_saw_is_said():
    trained = card(training={"data": [{"set": "gliomas", "licence": "CC0"}, "old"]})
    assert trained_on(trained) == {"gliomas", "old"}
    assert seen(trained, TileSet("gliomas", "train")) == "these tiles"
    assert seen(trained, TileSet("gliomas", "val")) == "the source"
    assert seen(trained, TileSet("others", "train")) == "no"
    assert seen(card(), TileSet("gliomas", "val")) == "not stated"
    assert seen(None, TileSet("gliomas", "val")) == "not trained"


def test_what_cannot_be_chosen_is_refused_with_what_can(drawn, tmp_path):
    with pytest.raises(GlioError, match="no set glioms; it has gliomas, others"):
        choose(drawn, ["glioms"], "val")
    with pytest.raises(GlioError, match="known: val, train, all"):
        choose(drawn, (), "test")
    with pytest.raises(GlioError, match=r"no index\.csv"):
        choose(tmp_path, (), "val")
    header = (drawn / "index.csv").read_text(encoding="utf-8").splitlines()[0]
    (tmp_path / "index.csv").write_text(header + "\n", encoding="utf-8")
    with pytest.raises(GlioError, match="no tile of split val"):
        choose(tmp_path, (), "val")


def test_colours_scales_and_models_that_do_not_fit_are_refused(drawn):
    with pytest.raises(GlioError, match="known: card, none, ratio, macenko, reinhard"):
        run(drawn, Segmenter("a", dark, card()), colour="vahadane")
    with pytest.raises(GlioError, match=r"a: takes 0\.5 µm/px"):
        run(drawn, Segmenter("a", dark, card(mpp=0.5)))
    with pytest.raises(GlioError, match="at least one model"):
        run(drawn)
    elsewhere = card(training={"data": ["nowhere"]})
    with pytest.raises(GlioError, match="no training tile of x to fit macenko to"):
        run(drawn, Segmenter("a", dark, elsewhere), colour="macenko")


@pytest.mark.release
def test_the_figures_of_the_shipped_cards_come_out_again(shared_data):
    student = reference_model().with_name("student.keras")
    models = open_segmenters([str(reference_model()), str(student), OTSU])
    results = run(shared_data, *models, sets=VALIDATED_ON)
    for result in results:
        kept = (result.model.card or results[0].model.card).training
        source = "haematoxylin_otsu" if result.model.name == "otsu" else "validation"
        wanted = kept[source][result.tiles.name]
        assert result.figures.mean.dice == pytest.approx(wanted["dice"], abs=2e-3)
        assert result.figures.pooled.dice == pytest.approx(wanted["dice_pooled"], abs=2e-3)
        for name in ("density_error_points", "density_bias_points", "density_worst_points"):
            assert getattr(result.figures, name) == pytest.approx(wanted[name], abs=0.1)
        if source == "validation":
            intervals = result.figures.intervals
            for name in ("dice", "density_error_points", "density_bias_points"):
                near = pytest.approx(
                    wanted["intervals"][name], abs=0.1 if "points" in name else 3e-3
                )
                assert getattr(intervals, name) == near
            worst = {tile["id"] for tile in wanted["worst"]}
            assert len(worst & {shown.tile.entry.id for shown in result.worst}) >= 4


@pytest.mark.release
def test_the_accuracy_that_the_readme_states_comes_out_again(shared_data):
    stated = readme_rows()
    models = open_segmenters(["student", "reference", OTSU])
    results = run(shared_data, *models, sets=VALIDATED_ON)
    normalised = {(result.tiles.name, result.model.name): result.figures for result in results}
    for place, (row, numbers) in enumerate(stated):
        name = ("student", "reference", "otsu")[place % 3]
        assert name in row.lower()
        figures = normalised[("tcga_kong36", "tnbc_curie")[place // 3], name]
        dice, error = figures.intervals.dice, figures.intervals.density_error_points
        assert numbers[:3] == pytest.approx((figures.mean.dice, *dice), abs=2e-3)
        assert numbers[3:6] == pytest.approx((figures.density_error_points, *error), abs=0.15)
        assert numbers[6] == pytest.approx(figures.density_bias_points, abs=0.15)
        assert numbers[7] == pytest.approx(100 * figures.class_agreement, abs=6)  # a tile


def readme_rows():
    """Return the rows of the README's table of accuracy, each with its numbers."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").replace("−", "-")
    (table,) = [part for part in text.split("\n\n") if part.startswith("| validation tiles")]
    rows = table.splitlines()[2:]
    assert len(rows) == 6
    numbers = [re.findall(r"[+-]?\d+(?:\.\d+)?", row.split("|", 3)[3]) for row in rows]
    return [
        (row, [float(n) for n in normalised]) for row, normalised in zip(rows, numbers, strict=True)
    ]


def gliobench(*arguments):
    return typed.here(cli.run, "accuracy", *arguments)


def test_as_typed_it_prints_tables_and_writes_figures_and_pictures(drawn, tmp_path):
    result = gliobench(
        drawn, "otsu", "--set", "gliomas",
        "--json", tmp_path / "found.json", "--pictures", tmp_path / "pictures",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("## gliomas val\n")
    assert "| otsu | not trained |" in result.stdout
    assert "drawn over 2 patients" in result.stdout
    values = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))["figures"]
    assert [image["id"] for image in values["results"][0]["images"]] == ["g1", "g2", "g3"]
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == [
        "classes.png", "density.png", "worst-otsu-gliomas-val.png",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (("nowhere", "otsu"), 1, "no index.csv"),
        (("DRAWN", "model.h5"), 1, "not a .keras, .onnx or .xml file"),
        (("DRAWN", "otsu", "--set", "glioms"), 2, "no set glioms"),
        (("DRAWN", "otsu", "--split", "test"), 2, "known: val, train, all"),
        (
            ("DRAWN", "missing.keras", "--colour", "lab"),
            2,
            "known: card, none, ratio, macenko, reinhard",
        ),
        (("DRAWN", "otsu", "otsu"), 2, "otsu, otsu: a model is given twice; give it once"),
        (("DRAWN", "otsu", "--json", "no/such/folder.json"), 1, "no such folder"),
    ],
)
def test_wrong_input_is_one_line(drawn, arguments, exit_code, said):
    result = gliobench(*(drawn if a == "DRAWN" else a for a in arguments))
    assert result.returncode == exit_code
    assert result.stdout == ""
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("gliobench: ")]
    assert said in line


def test_help_says_why_accuracy_is_not_enough():
    result = gliobench("--help")
    assert result.returncode == 0
    assert "never by accuracy alone" in " ".join(result.stdout.replace("│", " ").split())


def test_the_shipped_models_are_there():
    assert reference_model().is_file()
    names = [Path(name).name for name in shipped_models()]
    assert names == ["reference.keras", "reference.xml", "student.xml", "otsu"]
