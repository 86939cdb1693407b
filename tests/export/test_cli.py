"""The command line: a fault is one line and exit code 1 or 2, a bug keeps its traceback."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import gliorun.cli
import slides
import typed
from glioexport import cli
from glioexport.loading import load_model
from gliorun import demo

from .foreign import dark_unet
from .small import write_tiles


def glioexport(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run glioexport as the installed command does."""
    return subprocess.run(
        [sys.executable, "-c", "from glioexport.cli import run; run()", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


@pytest.fixture
def type_here():
    """Run a command in this process: (exit code, stdout, lines of stderr)."""

    def run(command, *words: object) -> tuple[int, str, list[str]]:
        done = typed.here(command, *words)
        return done.returncode, done.stdout, done.stderr.splitlines()

    return run


@pytest.mark.parametrize("command", ["train", "distil"])
def test_training_on_a_missing_folder_is_one_line_and_writes_nothing(
    type_here, tmp_path: Path, monkeypatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, lines = type_here(cli.run, command, "none", "--out", "out")
    assert (code, out) == (1, "")
    assert lines == ["glioexport: none: no index.csv; pass the folder of the labelled tiles"]
    assert list(tmp_path.iterdir()) == []


def test_converting_a_missing_file_is_one_line_and_writes_nothing(tmp_path: Path) -> None:
    done = glioexport("convert", "none.keras", "--out", "out", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == ["glioexport: none.keras: no such file; check its name"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        ("--recipe", "unknown"),
        ("--filters", "0"),
        ("--epochs", "0"),
        ("--precision", "float99"),
        ("--vary", "nope=1"),
        ("--hold-out", "nope"),
        ("--weight", "nope=2"),
        ("--weight", "nope"),
        ("--seed", "-1"),
    ],
)
def test_an_option_out_of_range_is_refused_without_a_traceback(
    type_here, tmp_path: Path, small_tiles: Path, wrong: tuple[str, str]
) -> None:
    code, _, _ = type_here(cli.run, "train", small_tiles, "--out", tmp_path / "out", *wrong)
    assert code == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "exit_code", "named"),
    [
        (["--label-share", "2"], 2, "label share is 2.0; it must lie from 0 to 1"),
        (["--turns", "5"], 2, "turns is 5; there are 1 to 4"),
        (["--weight", "nope=2"], 2, "nope=2: no such set; the index has "),
        (["--vary", "stem=7"], 2, "stem=7: input side is 480 px; it must be a multiple of 56"),
        (["--vary", "average=1"], 2, "average is 1.0; it must lie from 0 to below 1"),
        (["--teacher", "none.keras"], 1, "none.keras: no such file; check its name"),
    ],
)
def test_every_wrong_word_of_distil_is_one_line_and_writes_nothing(
    type_here, tmp_path: Path, small_tiles: Path, words: list[str], exit_code: int, named: str
) -> None:
    code, out, lines = type_here(cli.run, "distil", small_tiles, "--out", tmp_path / "out", *words)
    assert (code, out) == (exit_code, "")
    assert len(lines) == 1
    assert lines[0].startswith("glioexport: ")
    assert named in lines[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "exit_code", "named"),
    [
        (["--mpp", "0.25"], 1, "are --pixel-range and --output right"),
        (["--mpp", "0.25", "--pixel-range", "0-1"], 2, "pixel range is '0-1'; known: 0..255"),
        (["--mpp", "0.25", "--output", "tanh"], 2, "output is 'tanh'; known: softmax"),
        (["--mpp", "0.25", "--tile-px", "64"], 2, "takes 32 px; leave --tile-px out"),
        (["--mpp", "0.25", "--custom", "none.py"], 1, "none.py: no such Python file; check"),
        (["--mpp", "0.25", "--unet", "filters=4"], 2, "--unet is for NAME.weights.h5"),
        (["--mpp", "0.25", "--tiles", "none"], 1, "no such folder of tiles; check its name"),
        (["--mpp", "9"], 2, "mpp is 9 µm per pixel; it must lie from"),
        (["--max-density-points", "-1"], 2, "difference is -1 points; it must be 0 or more"),
        (["--min-class-agreement", "97"], 2, "agreement is 97; it must lie from 0 to 1"),
        ([], 1, "pass --mpp, its µm per pixel"),
    ],
)
def test_every_wrong_word_of_convert_is_one_line_and_writes_nothing(
    type_here, tmp_path: Path, words: list[str], exit_code: int, named: str
) -> None:
    model = tmp_path / "mine.keras"
    dark_unet(32, levels=1, pixel_range="0..1").save(model)
    code, out, lines = type_here(cli.run, "convert", model, "--out", tmp_path / "out", *words)
    assert (code, out) == (exit_code, "")
    assert lines[-1].startswith("glioexport: ")
    assert named in lines[-1]
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.keras"]


@pytest.mark.release
def test_from_a_keras_file_that_is_not_ours_in_shape_to_a_heatmap_as_in_the_readme(
    type_here, tmp_path: Path, small_slide: slides.Drawn
) -> None:
    """Three levels, one sigmoid channel, 512 px, pixels from 0 to 1."""

    model = tmp_path / "mine.keras"
    dark_unet(512, levels=3, pixel_range="0..1").save(model)
    tiles = tmp_path / "tiles"
    tiles.mkdir()
    for seed in range(4):
        tissue = demo.draw_tissue(demo.demo_density(512, 512) + 0.02, seed)
        Image.fromarray(tissue.pixels).save(tiles / f"{seed}.png")
    code, table, lines = type_here(
        cli.run, "convert", model, "--out", tmp_path / "mine", "--tiles", tiles,
        "--mpp", 0.25, "--pixel-range", "0..1",
    )  # fmt: skip
    assert code == 0, lines
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == [
        "ONNX", "OpenVINO FP32", "OpenVINO FP16", "OpenVINO INT8"
    ]  # fmt: skip
    assert any("output: sigmoid" in line for line in lines)
    certificate = json.loads((tmp_path / "mine" / "parity.json").read_text(encoding="utf-8"))
    assert certificate["source"]["pixel_range"] == "0..1"
    assert certificate["OpenVINO INT8"]["density_error_points"] <= 0.3

    heatmap, density = tmp_path / "heatmap.png", tmp_path / "density.csv"
    code, _, lines = type_here(
        gliorun.cli.run, small_slide.path, "--model", tmp_path / "mine" / "int8.xml",
        "--out", heatmap, "--out", density, "--quiet",
    )  # fmt: skip
    assert code == 0, lines
    assert Image.open(heatmap).size[0] > 100
    with density.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert ("512", "512") in {(row["width"], row["height"]) for row in rows}  # not at the edge
    assert max(float(row["density"] or 0) for row in rows) > 0.02


def test_help_names_the_commands_without_loading_tensorflow(tmp_path: Path) -> None:
    check = (
        "import sys\nfrom glioexport.cli import run\n"
        "try:\n    run()\nexcept SystemExit as end:\n    code = end.code\n"
        "assert not {'tensorflow', 'keras', 'openvino'} & set(sys.modules)\n"
        "raise SystemExit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", check, "--help"],
        cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for command in ("train", "distil", "convert", "clean", "annotate", "masks"):
        assert command in done.stdout


@pytest.mark.release
def test_no_dropblock_is_the_plain_unet(type_here, small_tiles: Path, tmp_path: Path) -> None:

    words = ["--epochs", "1", "--filters", "2", "--vary", "crop_px=32", "--vary", "batch=2"]
    kinds = {}
    for name, further in (("plain", ["--no-dropblock"]), ("dropping", [])):
        out = tmp_path / name
        code, said, _ = type_here(cli.run, "train", small_tiles, "--out", out, *words, *further)
        assert (code, said) == (0, f"{out / 'model.keras'}\n")
        kinds[name] = [type(layer).__name__ for layer in load_model(out / "model.keras").layers]
    assert "DropBlock2D" not in kinds["plain"]
    assert kinds["plain"] == [kind for kind in kinds["dropping"] if kind != "DropBlock2D"]
    assert json.loads((tmp_path / "plain" / "model.json").read_text("utf-8"))["name"] == (
        "U-net, 2 filters"
    )


def test_a_limit_of_clean_is_changed_by_its_name(
    type_here, small_tiles: Path, tmp_path: Path
) -> None:
    kept = {}
    for limit in ("max_edge_px=100", "max_edge_px=0.01"):
        words = ("clean", small_tiles, "--out", tmp_path / limit, "--limit", limit)
        code, _, lines = type_here(cli.run, *words)
        assert (code, lines) == (0, [])
        with (tmp_path / limit / "index.csv").open(newline="", encoding="utf-8") as rows:
            kept[limit] = len(list(csv.DictReader(rows)))
    assert list(kept.values()) == [6, 0]
    code, _, lines = type_here(
        cli.run, "clean", small_tiles, "--out", tmp_path / "no", "--limit", "sharp=1"
    )
    assert code == 2
    assert "known, as name=value: " in lines[0]
    assert not (tmp_path / "no").exists()


def test_a_class_of_ones_own_counts_as_nucleus_where_it_is_named(type_here, tmp_path: Path) -> None:
    tissue = demo.draw_tissue(demo.demo_density(128, 128), seed=1)
    Image.fromarray(tissue.pixels).save(tmp_path / "a.png")
    out = tmp_path / "lab"
    assert type_here(cli.run, "annotate", tmp_path / "a.png", "--out", out)[0] == 0
    path = out / "candidates" / "a.geojson"
    content = json.loads(path.read_text(encoding="utf-8"))
    features = content if isinstance(content, list) else content["features"]
    features[0]["properties"]["classification"] = {"name": "Mitosis"}
    path.write_text(json.dumps(features), encoding="utf-8")
    counts = []
    for further in ([], ["--class", "mitosis", "--overwrite"]):
        code, said, _ = type_here(cli.run, "masks", path, "--out", out, *further)
        assert code == 0
        counts.append(int(said.split()[0]))
    assert counts == [len(features) - 1, len(features)]


WRONG = """
import contextlib, io, sys
from glioexport import cli as export
from gliobench import cli as bench
def typed(command, *words):
    sys.argv, said = ["x", *words], io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            command.run()
        except SystemExit as left:
            code = left.code
    print(code, said.getvalue().count("\\n"), "tensorflow" in sys.modules)
typed(export, "train", "--help")
typed(export, "train", "none", "--out", "x")
typed(export, "train", "none", "--out", "x", "--vary", "nope=1")
typed(export, "train", "none", "--out", "x", "--precision", "f8")
typed(export, "distil", "none", "--out", "x", "--label-share", "2")
typed(export, "convert", "none.keras", "--out", "x")
typed(export, "convert", "none.keras", "--out", "x", "--pixel-range", "3")
typed(bench, "compare", "--tiles", "none")
typed(bench, "untrained", "nope=1")
"""


def test_what_was_typed_wrong_is_told_before_tensorflow_loads(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WRONG], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = [line.split() for line in done.stdout.splitlines()]
    assert [code for code, _, _ in told] == ["0", "1", "2", "2", "2", "1", "2", "1", "2"]
    assert {loaded for _, _, loaded in told} == {"False"}
    assert [lines for _, lines, _ in told] == ["0"] + 8 * ["1"]


LOADED = """
from glioexport.quiet import load_tensorflow
load_tensorflow()
import keras
keras.layers.Conv2D(2, 3)(keras.ops.zeros((1, 8, 8, 3)))
import os
os.write(2, b"heard")
"""


def test_tensorflow_loads_without_a_word() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, check=True)
    assert done.stderr == b"heard"


@pytest.mark.parametrize(
    ("words", "exit_code", "named"),
    [
        (["a.svs", "--fields", "5"], 2, "--fields goes with --map"),
        (["a.svs", "b.svs", "--square", "B6"], 2, "are of one slide; name one"),
        (["a.svs", "--outlines", "watershed"], 2, "outlines is 'watershed'; known: network, otsu"),
        (["a.svs", "--square", "B6"], 1, "a.svs: no such file"),
        (["a.svs", "--square", "B6", "--model", "none.xml"], 1, "none.xml: no such model file"),
    ],
)
def test_every_wrong_word_of_annotate_is_one_line_and_writes_nothing(
    type_here, tmp_path: Path, words: list[str], exit_code: int, named: str
) -> None:
    out = tmp_path / "out"
    code, printed, lines = type_here(cli.run, "annotate", *words, "--out", out)
    assert (code, printed, len(lines)) == (exit_code, "", 1)
    assert named in lines[0]
    assert not out.exists()


def test_a_calibration_of_too_few_fields_is_one_line(type_here, tmp_path: Path) -> None:
    write_tiles(tmp_path)
    words = ("calibrate", tmp_path, "--split", "val", "--out", tmp_path / "lab.json")
    code, printed, lines = type_here(cli.run, *words)
    assert (code, printed, len(lines)) == (1, "", 1)
    assert "at least 3 labelled fields, not 2" in lines[0]
    assert not (tmp_path / "lab.json").exists()
