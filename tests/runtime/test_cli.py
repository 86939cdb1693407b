"""The command, from the line that is typed to the files that lie there."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

import slides
import typed
from gliorun import cli, demo
from gliorun.errors import GlioError
from gliorun.model.card import sha256_of
from gliorun.model.shipped import DEFAULT_MODEL, REFERENCE_MODEL, model_path

DEMO_ERROR = 0.02
"""Bound on the mean absolute error of a cell's density; 0.013 was measured, all of it too high."""
COMMAND = [sys.executable, "-c", "from gliorun.cli import run; run()"]


def type_in(*words: object) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [*COMMAND, *map(str, words)], capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture
def type_here():
    """Run the command in this process: (exit code, stdout, stderr)."""

    def run(*words: object) -> tuple[int, str, str]:
        done = typed.here(cli.run, *words)
        return done.returncode, done.stdout, done.stderr

    return run


def densities(path: Path) -> list[tuple[int, int, int, int, float]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return [
            (
                *(int(row[k]) for k in ("minx", "miny", "width", "height")),
                float(row["density_of_tile"]),
            )
            for row in csv.DictReader(stream)
        ]


def truth_of(
    tissue: demo.SyntheticTissue, cells: list[tuple[int, int, int, int, float]]
) -> np.ndarray:
    return np.array([tissue.nuclei[y : y + h, x : x + w].mean() for x, y, w, h, _ in cells])


@pytest.mark.release
def test_the_demo_measures_the_density_that_was_drawn(tmp_path):
    heatmap, table = tmp_path / "heatmap.png", tmp_path / "density.csv"
    done = type_in("--demo", "--out", heatmap, "--out", table)
    assert done.returncode == 0, done.stderr
    assert "mean density" in done.stdout
    assert "densest field" in done.stdout  # in the middle of the denser one
    assert done.stdout.count("\n") == 1
    with Image.open(heatmap) as image:
        assert image.size[0] > 500
    width, height = demo.DEMO_SIZE_PX
    cells = densities(table)
    truth = truth_of(demo.draw_tissue(demo.demo_density(height, width)), cells)
    values = np.array([cell[-1] for cell in cells])
    assert len(cells) > 40
    assert np.corrcoef(values, truth)[0, 1] > 0.95
    assert np.abs(values - truth).mean() < DEMO_ERROR


def test_a_small_slide_is_measured_and_its_summary_stands_on_stdout(
    type_here, tmp_path, small_slide
):
    table = tmp_path / "density.csv"
    code, out, err = type_here(small_slide.path, "--out", table, "--quiet")
    assert code == 0
    assert out.startswith(f"{table}: mean density ")
    assert err == ""
    cells = densities(table)
    values = np.array([cell[-1] for cell in cells])
    truth = truth_of(small_slide.tissue, cells)
    assert len(cells) == 11
    assert np.corrcoef(values, truth)[0, 1] > 0.95
    assert np.abs(values - truth).mean() < DEMO_ERROR


def test_brackets_in_a_name_are_told_as_they_are(type_here, tmp_path, small_slide):
    path = tmp_path / "a[red].svs"
    path.write_bytes(small_slide.path.read_bytes())
    _, _, err = type_here(path, "--out", tmp_path / "a.csv", "--mpp", 0.4)
    assert "warning: a[red].svs: 0.4 µm/px is coarser" in err
    assert "\na[red].svs: hot spots are fields of" in err


def test_quiet_keeps_back_progress_and_no_warning(type_here, tmp_path, small_slide):
    words = (small_slide.path, "--out", tmp_path / "a.csv", "--mpp", 0.4, "--quiet")
    code, out, err = type_here(*words)
    assert code == 0  # the map is made; a script that stops at a warning would stop at every 20x
    said, *more = err.splitlines()
    assert said.startswith("warning: small.svs: --mpp 0.4 goes before the slide's own 0.25 µm/px")
    assert all(line.startswith("warning: small.svs: ") for line in more)
    assert len(more) == 2
    assert out.endswith(", 3 warnings\n")


@pytest.mark.skipif(sys.platform != "linux", reason="there a name is always text")
def test_a_name_in_another_encoding_is_escaped_in_every_output(type_here, tmp_path, small_slide):
    path = tmp_path / os.fsdecode(b"\xff\x1b.svs")
    path.write_bytes(small_slide.path.read_bytes())
    suffixes = (".png", ".html", ".csv", ".json", ".geojson", ".ome.tif", ".mask.ome.tif")
    outputs = [tmp_path / f"{os.fsdecode(bytes([0xFE]))}{suffix}" for suffix in suffixes]
    code, out, _ = type_here(path, *(word for output in outputs for word in ("--out", output)))
    assert code == 0
    assert r"\udcfe.png" in out
    record = json.loads(outputs[3].read_text(encoding="utf-8"))
    assert record["slide"]["name"] == r"\udcff\x1b.svs"
    assert set(record["outputs"]) == {rf"\udcfe{suffix}" for suffix in set(suffixes) - {".json"}}


def test_requests_and_threads_change_no_byte(type_here, tmp_path, small_slide):
    one, many = tmp_path / "one.csv", tmp_path / "many.csv"
    for table, number in ((one, 1), (many, 4)):
        code, _, _ = type_here(
            small_slide.path, "--out", table, "--requests", number, "--threads", number, "--quiet"
        )
        assert code == 0
    assert one.read_bytes() == many.read_bytes()


def refused(answer: tuple[int, str, str], *parts: str, exit_code: int = 1) -> None:
    """Check that an answer is one line of `gliorun: …` with `parts` in it, and its exit code."""
    code, out, err = answer
    assert code == exit_code
    assert out == ""
    assert err.startswith("gliorun: ")
    assert err.count("\n") == 1
    for part in parts:
        assert part in err


def test_no_such_slide(type_here, tmp_path):
    answer = type_here(tmp_path / "gone.svs", "--out", tmp_path / "a.csv")
    refused(answer, "gone.svs: no such file; check its name")
    assert list(tmp_path.iterdir()) == []


def test_a_text_file_for_a_slide(type_here, tmp_path):
    path = slides.text_file(tmp_path / "notes.svs")
    refused(type_here(path, "--out", tmp_path / "a.csv"), "notes.svs: not a slide")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_a_truncated_slide(type_here, tmp_path, small_slide, share):
    path = slides.truncated(tmp_path / "cut.svs", small_slide.path, share)
    refused(type_here(path, "--out", tmp_path / "a.csv"), "cut.svs: ", "damaged", "copy it again")
    assert list(tmp_path.iterdir()) == [path]


def test_a_slide_without_a_scale(type_here, tmp_path):
    path = tmp_path / "bare.svs"
    demo.write_slide(path, slides.all_tissue(300, 200), mpp=None, levels=1)
    refused(type_here(path, "--out", tmp_path / "a.csv"), "bare.svs: no micrometres", "--mpp")
    code, _, _ = type_here(path, "--out", tmp_path / "a.csv", "--mpp", 0.25)
    assert code == 0


def test_a_slide_of_glass(type_here, tmp_path):
    path = tmp_path / "glass.svs"
    demo.write_slide(path, slides.glass(600, 500), levels=1)
    refused(type_here(path, "--out", tmp_path / "a.csv"), "glass.svs: no tissue found")
    assert list(tmp_path.iterdir()) == [path]


def test_a_damaged_slide_leaves_the_earlier_output_alone(type_here, tmp_path, small_slide):
    everywhere = [(column, row) for column in range(8) for row in range(6)]
    path = slides.with_bad_jpeg(tmp_path / "bad.svs", small_slide.path, everywhere)
    table = tmp_path / "a.csv"
    table.write_text("earlier")
    refused(type_here(path, "--out", table), "bad.svs: ")
    assert table.read_text() == "earlier"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.csv", "bad.svs"]


def test_an_output_in_a_folder_that_is_not_there(type_here, tmp_path, small_slide):
    refused(type_here(small_slide.path, "--out", tmp_path / "no" / "a.csv"), "cannot be written")


def test_an_output_with_an_unknown_suffix(type_here, tmp_path, small_slide):
    answer = type_here(small_slide.path, "--out", tmp_path / "a.doc")
    refused(answer, "a.doc: unknown suffix; known: .png, .qc.png, .html, .csv", exit_code=2)
    assert list(tmp_path.iterdir()) == []


def test_one_bad_output_stops_the_good_one_too(type_here, tmp_path, small_slide):
    answer = type_here(small_slide.path, "--out", tmp_path / "a.csv", "--out", tmp_path / "a.doc")
    refused(answer, "a.doc", exit_code=2)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_ships_goes_by_its_name():
    assert model_path(None) == DEFAULT_MODEL
    assert model_path(Path("student")) == DEFAULT_MODEL
    assert model_path(Path("reference")) == REFERENCE_MODEL
    assert model_path(Path("reference.xml")) == Path("reference.xml")  # a file, wherever it lies
    with pytest.raises(GlioError, match="no such model"):
        model_path(Path("deep/reference"))


def test_a_model_of_no_known_name(type_here, tmp_path, small_slide):
    answer = type_here(small_slide.path, "--out", tmp_path / "a.csv", "--model", "best")
    refused(answer, "best: no such model; pass a file (.xml) or reference or student")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [("{a}",), ("{slide}", "--tissue-mask", "{a}")])
def test_an_output_never_takes_the_place_of_what_is_read(type_here, tmp_path, small_slide, words):
    read = tmp_path / "a.ome.tif"
    read.write_bytes(small_slide.path.read_bytes())
    (tmp_path / "sub").mkdir()
    named = [word.format(a=read, slide=small_slide.path) for word in words]
    answer = type_here(*named, "--out", tmp_path / "sub" / ".." / "a.ome.tif")
    refused(answer, "a.ome.tif: is read by this run; name another file", exit_code=2)
    assert read.read_bytes() == small_slide.path.read_bytes()


def test_a_model_whose_name_is_longer_than_a_disk_takes(type_here, tmp_path, small_slide):
    model = tmp_path / ("x" * 300 + ".xml")
    answer = type_here(small_slide.path, "--out", tmp_path / "a.csv", "--model", model)
    refused(answer, "x.xml: cannot be read (File name too long)")


def test_a_model_that_is_not_ours(type_here, tmp_path, small_slide):
    model = tmp_path / "model.xml"
    model.write_text("<net/>")
    model.with_suffix(".bin").write_bytes(DEFAULT_MODEL.with_suffix(".bin").read_bytes())
    refused(
        type_here(small_slide.path, "--out", tmp_path / "a.csv", "--model", model), "model.xml: "
    )
    assert not (tmp_path / "a.csv").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--mpp", 0), ("--mpp", 9), ("--cell-px", 100), ("--threads", 0),
        ("--max-bad-tiles", 2), ("--requests", 0), ("--streams", 0), ("--network-threads", 0),
        ("--cores", "fast"), ("--memory", 3), ("--checkpoint", -1), ("--timeout", 0),
        ("--precision", "f8"), ("--palette", "nope"), ("--hot-spots", 0), ("--hot-spot-mm2", "nan"),
        ("--out", "a.csv"),
    ],
)  # fmt: skip
def test_values_without_sense_are_wrong_usage(
    type_here, tmp_path, small_slide, monkeypatch, option, value
):
    monkeypatch.chdir(tmp_path)
    refused(type_here(small_slide.path, "--out", "a.csv", option, value), exit_code=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "value"), [("--mpp", 1), ("--device", "GPU.7"), ("--tissue-mask", "gone.png")]
)
def test_values_that_slide_machine_or_disk_do_not_bear_out(
    type_here, tmp_path, small_slide, option, value
):
    refused(type_here(small_slide.path, "--out", tmp_path / "a.csv", option, value))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ("--format", "foo"), ("--format", ","), ("--watch", "--settle-s", 0), ("--mpp", 9),
        ("--palette", "nope"), ("--cell-px", 7),
    ],
)  # fmt: skip
def test_a_wrong_option_for_many_slides_is_found_before_any_of_them(type_here, tmp_path, words):
    """The first could not be read: it is not what the run fails of."""
    slide = slides.text_file(tmp_path / "a.svs")
    code, _, err = type_here(slide, "--out-dir", tmp_path / "maps", *words)
    assert code == 2
    assert err.startswith("gliorun: ")
    assert err.count("\n") == 1
    assert list(tmp_path.glob("maps/**/*.json")) == []


@pytest.mark.parametrize("threads", ["0", "-2", "x", ""])
def test_a_number_of_threads_that_numba_cannot_take_is_one_line(tmp_path, monkeypatch, threads):
    monkeypatch.setenv("NUMBA_NUM_THREADS", threads)
    done = type_in("--demo", "--out", tmp_path / "a.csv")
    assert done.returncode == 2
    assert done.stderr == (
        f"gliorun: NUMBA_NUM_THREADS is {threads!r}; set it to 1 or more, or not at all\n"
    )


def test_nothing_typed_shows_examples(type_here):
    code, out, err = type_here()
    assert code == 2
    assert out == ""
    lines = err.splitlines()
    assert [line.split() for line in lines[1:-1]] == [
        words.split() for words in (cli.EXAMPLE, cli.MANY, "gliorun --demo --out heatmap.png")
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--demo",), "--demo goes with --out. Example: gliorun --demo --out heatmap.png"),
        (("a.svs",), "say where to, with --out"),
        (("a.svs", "--demo", "--out", "a.csv"), "name one slide, or --demo"),
        (("a.svs", "--out", "a.csv", "--mpp", "fine"), "--mpp"),
        (("a.svs", "--colour"), "--colour"),
        (("a.svs", "--out", "a.csv", "--settle-s", 5), "--settle-s goes with --out-dir"),
        (("a.svs", "--out-dir", "maps", "--settle-s", 5), "--settle-s goes with --watch"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_how(type_here, words, said):
    code, out, err = type_here(*words)
    assert code == 2
    assert out == ""
    assert said in " ".join(err.replace("│", " ").split())


def test_the_version_names_the_libraries_of_a_result(type_here):
    code, out, _ = type_here("--version")
    assert code == 0
    assert out.startswith("gliorun ")
    assert out.count("\n") == 1
    assert "openvino 2" in out
    assert "openslide-bin 4" in out
    weights = sha256_of(DEFAULT_MODEL.with_suffix(".bin"))
    assert f"model student {weights[:12]}," in out
    assert "numba 0." in out


def test_help_imports_nothing_heavy():
    script = (
        "import sys\n"
        "from gliorun.cli import run\n"
        "sys.argv = ['gliorun', '--help']\n"
        "try:\n    run()\n"
        "except SystemExit as left:\n    assert not left.code\n"
        "heavy = {'openvino', 'numba', 'matplotlib', 'openslide', 'numpy', 'PIL'}\n"
        "print('heavy:', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert "--out" in done.stdout
    assert "2: wrong usage. 130: stopped." in " ".join(done.stdout.split())
    assert "heavy: []" in done.stdout


def test_a_fault_in_a_process_of_its_own_is_one_line_without_a_traceback(tmp_path):
    done = type_in(tmp_path / "gone.svs", "--out", tmp_path / "a.csv")
    refused((done.returncode, done.stdout, done.stderr), "no such file")


def test_tiles_of_any_quality_are_measured_on_request(type_here, tmp_path):
    """Half of the slide is out of focus."""
    tissue = Image.fromarray(slides.all_tissue(960, 480))
    blurred = tissue.crop((480, 0, 960, 480)).filter(ImageFilter.GaussianBlur(8))
    tissue.paste(blurred, (480, 0))
    path, table = tmp_path / "half.svs", tmp_path / "half.csv"
    demo.write_slide(path, np.asarray(tissue), levels=1)
    statuses = {}
    for words in ((), ("--any-quality",)):
        code, _, _ = type_here(path, "--out", table, "--quiet", *words)
        assert code == 0
        with table.open(newline="", encoding="utf-8") as stream:
            statuses[words] = [row["status"] for row in csv.DictReader(stream)]
    assert statuses == {(): ["measured", "blurred"], ("--any-quality",): ["measured", "measured"]}


def test_what_was_chosen_is_said_on_request(type_here, tmp_path, small_slide):
    code, out, err = type_here(small_slide.path, "--out", tmp_path / "a.csv", "--verbose")
    assert code == 0
    assert out.count("\n") == 1
    for part in ("precision f32", "streams", "tiles ahead", "cache 64 MB", "0.25 µm/px from"):
        assert part in err
    assert "checkpoint: every 10 s" in err
    assert re.search(r"waited \d+\.\d s for tiles and \d+\.\d s for the network", err)


@pytest.mark.parametrize(("seconds", "said"), [(0, "none"), (5, "every 5 s")])
def test_how_often_a_run_is_kept_is_said_as_it_is(type_here, tmp_path, small_slide, seconds, said):
    words = ("--verbose", "--checkpoint", seconds)
    _, _, err = type_here(small_slide.path, "--out", tmp_path / "a.csv", *words)
    assert f"checkpoint: {said}\n" in err


def test_a_field_is_measured_at_the_scale_that_is_given(type_here, tmp_path):
    field, table = tmp_path / "field.png", tmp_path / "field.csv"
    Image.fromarray(slides.all_tissue(960, 480)).save(field)
    refused(type_here(field, "--out", table), "field.png: no micrometres per pixel; pass --mpp")
    code, out, _ = type_here(field, "--out", table, "--mpp", 0.25, "--quiet")
    assert code == 0
    assert "of 2 tiles" in out
    assert [cell[:2] for cell in densities(table)] == [(0, 0), (480, 0)]


@pytest.mark.parametrize("side", [1, 40, 150])
def test_a_field_too_small_for_a_value_is_refused_with_what_is_needed(type_here, tmp_path, side):
    field = tmp_path / "field.png"
    Image.fromarray(slides.all_tissue(side, side)).save(field)
    answer = type_here(field, "--out", tmp_path / "a.csv", "--mpp", 0.25)
    refused(answer, f"{side} x {side} px are too small; export a field of at least 240 x 240 px")


def test_a_mask_of_one_s_own_says_where_tissue_is(type_here, tmp_path, small_slide):
    mask, table = tmp_path / "mask.png", tmp_path / "a.csv"
    pixels = np.zeros((130, 180), np.uint8)
    pixels[50:90, 50:140] = 255
    Image.fromarray(pixels).save(mask)
    code, _, _ = type_here(small_slide.path, "--out", table, "--quiet", "--tissue-mask", mask)
    assert code == 0
    assert [cell[:2] for cell in densities(table)] == [(480, 480), (960, 480)]


def test_a_grey_slide_is_refused_with_the_reason(type_here, tmp_path):
    path = tmp_path / "grey.svs"
    demo.write_slide(path, slides.all_tissue(960, 480)[..., 1:2].repeat(3, axis=2), levels=1)
    refused(type_here(path, "--out", tmp_path / "a.csv"), "grey.svs: a grey-level image")


@pytest.mark.parametrize("size", [(481, 480), (960, 481), (100, 1200), (200, 160)])
def test_slides_with_edges_of_a_pixel_and_smaller_than_a_tile(type_here, tmp_path, size):
    path, table = tmp_path / "Schnitt 3 – größer.svs", tmp_path / "mit Leerzeichen é.csv"
    demo.write_slide(path, slides.all_tissue(*size, density=0.15), levels=1)
    code, _, err = type_here(path, "--out", table, "--quiet", "--any-quality")
    assert code == 0, err
    cells = densities(table)
    assert sum(width * height for _, _, width, height, _ in cells) <= size[0] * size[1]
    assert all(0.05 < cell[-1] < 0.4 for cell in cells)


def test_a_dicom_folder_is_a_slide(type_here, tmp_path):
    folder, table = (
        slides.dicom(tmp_path / "dicom", slides.all_tissue(960, 480)),
        tmp_path / "a.csv",
    )
    code, _, err = type_here(folder, "--out", table, "--quiet")
    assert code == 0, err
    assert len(densities(table)) == 2


def test_a_small_memory_changes_no_byte(type_here, tmp_path, small_slide):
    wide, narrow = tmp_path / "wide.csv", tmp_path / "narrow.csv"
    assert type_here(small_slide.path, "--out", wide, "--quiet")[0] == 0
    assert type_here(small_slide.path, "--out", narrow, "--quiet", "--memory", 16)[0] == 0
    assert wide.read_bytes() == narrow.read_bytes()


def test_a_slide_still_being_written_is_refused_and_later_measured(
    type_here, tmp_path, small_slide
):
    path, table, whole = tmp_path / "a.svs", tmp_path / "a.csv", small_slide.path.read_bytes()
    for share in (0.1, 0.6, 0.99):
        path.write_bytes(whole[: int(share * len(whole))])
        refused(type_here(path, "--out", table, "--quiet"), "a.svs: ")
    path.write_bytes(whole)
    assert type_here(path, "--out", table, "--quiet")[0] == 0
    assert len(densities(table)) == 11


def test_a_name_that_the_log_s_encoding_lacks_is_escaped(tmp_path):
    """As where Windows sends the output of a task to a file."""
    folder = tmp_path / "切片 ü"
    folder.mkdir()
    slide = folder / "Schnitt 三.svs"
    demo.write_slide(slide, slides.all_tissue(300, 260), levels=1)
    done = subprocess.run(
        [*COMMAND, str(slide), "--out", str(folder / "a.csv"), "--quiet"],
        capture_output=True, timeout=120, check=False,
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"\\u5207\\u7247 \xfc" in done.stdout
    assert (folder / "a.csv").is_file()


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_options_and_leaves_files_to_itself(tmp_path):
    command = tmp_path / "gliorun"
    command.write_text(f"#!{sys.executable}\nfrom gliorun.cli import run\nrun()\n")
    command.chmod(0o755)
    script = """
        eval "$(_GLIORUN_COMPLETE=source_bash gliorun)"
        complete -p gliorun
        for word in --hot-spot- sli; do
            COMP_WORDS=(gliorun $word) COMP_CWORD=1
            _gliorun_completion gliorun
            echo "$word:" "${COMPREPLY[@]}"
        done
    """
    done = subprocess.run(
        ["bash", "-euc", script],
        capture_output=True, text=True, timeout=60, check=True,
        env={**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
    )  # fmt: skip
    how, options, files = done.stdout.splitlines()
    assert "-o default" in how
    assert options.split() == ["--hot-spot-:", "--hot-spot-mm2"]
    assert files == "sli:"
