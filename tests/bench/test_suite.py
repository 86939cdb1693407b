"""gliobench all, with as little effort as there can be: everything is measured and written."""

import shlex

import pytest

from export.small import write_tiles
from gliobench import cli, document, sidebyside, suite
from gliobench.compare import CompareFigures
from gliobench.speed import SpeedFigures
from gliorun.errors import GlioError
from guides import marked


@pytest.fixture(scope="module")
def measured(tmp_path_factory, small_slide):
    """What the command of the guides writes and prints, on few tiles and a small slide."""
    place = tmp_path_factory.mktemp("all")
    out, tiles = place / "out", place / "tiles"
    tiles.mkdir()
    words = {"FOLDER": str(out), "DATA": str(write_tiles(tiles, (480, 500)))}
    (line,) = marked("all")
    arguments = [words.get(word, word) for word in shlex.split(line)[1:]]
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suite, "QUICK", suite.Effort(tiles=2, rounds=2, budget_s=45))
        patch.setattr(cli, "_echo", said.append)
        cli.app([*arguments, "--slide", str(small_slide.path)], standalone_mode=False)
    return out, "".join(said)


def figures(out, kind, of):
    _, values = document.load(out / f"{kind}.json")
    return document.read(of, values["figures"], kind)


@pytest.mark.release
def test_everything_is_written_and_in_the_report(measured):
    out, text = measured
    assert {path.name for path in out.iterdir()} == {
        "doctor.json", "compare.json", "speed.json", "accuracy.json", "report.md",
        "speed-A.png", "compare-A.png", "accuracy-speed.png",
    }  # fmt: skip
    assert (out / "report.md").read_text(encoding="utf-8").strip() == text.strip()
    for part in ("# gliobench on ", "## Machines", "Fit to run gliorun.", "![compare-A]"):
        assert part in text
    again = sidebyside.report_markdown(
        sidebyside.read_all(
            [out / f"{kind}.json" for kind in ("doctor", "compare", "speed", "accuracy")]
        )
    )
    assert again in text


@pytest.mark.release
def test_every_backend_stands_beside_the_reference_and_agrees(measured):
    compare_figures = figures(measured[0], "compare", CompareFigures)
    names = [row.name for row in compare_figures.rows]
    assert names[0] == "Keras predict"
    assert {"ONNX Runtime", "OpenVINO FP32", "OpenVINO BF16", "OpenVINO INT8"} <= set(names)
    assert "Keras XLA" in names or any("XLA" in why for why in compare_figures.left_out)
    assert names[-1] == "models/student.xml, INT8"
    for row in compare_figures.rows:
        assert len(row.tiles_s) == 2
        assert row.start_s > 0
        if row.same_network:
            assert row.agrees
            assert row.agreement.dice > 0.95
            assert row.gmac == compare_figures.rows[0].gmac > 1


@pytest.mark.release
def test_every_way_of_a_job_finds_the_same_densities(measured):
    speed_figures = figures(measured[0], "speed", SpeedFigures)
    names = [way.name for way in speed_figures.ways]
    assert names[:2] == ["gliorun", "network alone"]
    script = "Keras script with another network"  # the reference, beside the student that ships
    assert script in names or any("Keras script" in why for why in speed_figures.left_out)
    assert all(way.agrees and len(way.tiles_s) == 2 for way in speed_figures.ways)
    assert list(speed_figures.stages) == ["read", "quality", "colour", "network", "map"]
    assert speed_figures.stages["network"] > speed_figures.stages["colour"]
    assert (speed_figures.slide, speed_figures.tissue_tiles) == ("small.svs", 11)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(GlioError, match="file: cannot be written"):
        suite.measure_all(tmp_path / "file", None, None, suite.QUICK, print)
