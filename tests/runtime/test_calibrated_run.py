"""A run with a calibration: its level decides, and stands in every output and its identity."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import slides
from gliorun import api, cli, identity, job
from gliorun.errors import GlioError
from gliorun.model import calibration
from gliorun.model.calibration import Calibration
from gliorun.model.engine import EXACT, open_model
from gliorun.model.outlines import Outlines
from gliorun.model.shipped import DEFAULT_MODEL
from gliorun.plan import Plan
from gliorun.settings import Settings

WEIGHTS = open_model(DEFAULT_MODEL, EXACT).card.weights_sha256
STRICT = Calibration("the lab", "student", WEIGHTS, Outlines(190, 170, 150), "2026-11-30", "me")
TEXTS = ("csv", "json", "html", "geojson", "nuclei.geojson")


def written(path: Path, made: Calibration = STRICT) -> Path:
    path.write_text(made.to_json({}), encoding="utf-8")
    return path


def run(slide: Path, outputs: list[Path], made: Calibration | None) -> str:
    return job.run(slide, Plan(outputs, DEFAULT_MODEL, Settings(calibration=made)), quiet=True)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


@pytest.fixture(scope="module")
def outputs(small_slide: slides.Drawn, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The text outputs of a slide with the calibration."""
    folder = tmp_path_factory.mktemp("calibrated")
    paths = [folder / f"a.{suffix}" for suffix in TEXTS]
    summary = run(small_slide.path, paths, STRICT)
    assert "calibrated to the lab, level 170" in summary
    return paths


def test_level_and_name_stand_in_every_text(outputs: list[Path]):
    for path in outputs:
        text = path.read_text(encoding="utf-8")
        assert "the lab" in text, path
        assert "170" in text, path
    assert {row["calibration"] for row in rows(outputs[0])} == {"the lab, level 170"}
    record = json.loads(outputs[1].read_text(encoding="utf-8"))
    assert record["settings"]["calibration"]["name"] == "the lab"
    assert record["outlines"] == {"inner": 190, "nucleus": 170, "outer": 150}


def test_a_stricter_level_measures_less_and_the_own_level_the_same(
    outputs: list[Path], small_slide: slides.Drawn, tmp_path: Path
):
    plain, own = tmp_path / "plain.csv", tmp_path / "own.csv"
    run(small_slide.path, [plain], None)
    outlines = open_model(DEFAULT_MODEL, EXACT).card.outlines
    run(small_slide.path, [own], replace(STRICT, outlines=outlines))
    at_170, at_own, without = (
        np.array([float(row["density"]) for row in rows(path)]) for path in (outputs[0], own, plain)
    )
    assert (at_170 <= without).all()
    assert at_170.mean() < 0.9 * without.mean()
    np.testing.assert_array_equal(at_own, without)
    assert "calibration" not in rows(plain)[0]


def test_colour_is_matched_with_the_models_own_level(
    outputs: list[Path], small_slide: slides.Drawn, tmp_path: Path
):
    # the inner outline of a run at the own level, set to 170, has the very density of level 170
    card = open_model(DEFAULT_MODEL, EXACT).card
    inner = replace(STRICT, outlines=Outlines(170, card.nucleus_level, 1))
    out = tmp_path / "inner.csv"
    run(small_slide.path, [out], inner)
    assert [row["density_low"] for row in rows(out)] == [row["density"] for row in rows(outputs[0])]


def test_a_calibration_is_part_of_what_a_result_depends_on():
    with_it, without, other = (
        identity.of_map(DEFAULT_MODEL, EXACT, Settings(calibration=made))
        for made in (STRICT, None, replace(STRICT, name="another"))
    )
    assert len({identity.key_of(values) for values in (with_it, without, other)}) == 3
    assert with_it == json.loads(json.dumps(with_it))


def test_another_model_is_refused_before_anything_is_written(
    small_slide: slides.Drawn, tmp_path: Path
):
    out = tmp_path / "a.csv"
    with pytest.raises(GlioError, match="is of the model student"):
        run(small_slide.path, [out], replace(STRICT, weights_sha256="0" * 64))
    assert list(tmp_path.iterdir()) == []


def test_programs_pass_a_calibration_with_the_settings(small_slide: slides.Drawn, tmp_path: Path):
    model = api.open_model()
    settings = api.Settings(calibration=api.read_calibration(written(tmp_path / "lab.json")))
    strict = api.measure(small_slide.path, model, settings)
    plain = api.measure(small_slide.path, model)
    assert strict.mean_density < 0.9 * plain.mean_density
    assert strict.record["settings"]["calibration"]["by"] == "me"


def test_the_environment_names_the_default_and_none_switches_it_off(
    small_slide: slides.Drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def typed(*words: object) -> int:
        monkeypatch.setattr(sys, "argv", ["gliorun", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            cli.run()
        return int(left.value.code or 0)

    out = tmp_path / "a.csv"
    monkeypatch.setenv("GLIORUN_CALIBRATION", str(written(tmp_path / "lab.json")))
    assert typed(small_slide.path, "--out", out, "--quiet") == 0
    assert rows(out)[0]["calibration"] == "the lab, level 170"
    assert typed(small_slide.path, "--out", out, "--quiet", "--calibration", "none") == 0
    assert "calibration" not in rows(out)[0]
    monkeypatch.setenv("GLIORUN_CALIBRATION", str(tmp_path / "gone.json"))
    assert typed(small_slide.path, "--out", out, "--quiet") == 1


def test_a_folder_is_measured_anew_with_a_calibration_and_its_table_names_it(
    small_slide: slides.Drawn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    from gliorun.batch import command

    request = command.Request([str(small_slide.path)], tmp_path / "maps", "csv", 1.0, None)
    mode = command.OutputMode(json_lines=True)
    for made, shown in ((None, ""), (STRICT, "the lab, level 170")):
        plan = Plan([], DEFAULT_MODEL, Settings(calibration=made))
        assert command.run(request, plan, mode)
        (line,) = rows(tmp_path / "maps" / "summary.csv")
        assert line["calibration"] == shown
        assert rows(tmp_path / "maps" / "small.csv")[0].get("calibration", "") == shown
        events = map(json.loads, capsys.readouterr().out.splitlines())
        (ended,) = (event for event in events if event["event"] == "slide")
        assert ended["calibration"] == (shown or None)
        page = (tmp_path / "maps" / "index.html").read_text(encoding="utf-8")
        assert ("calibrated to the lab, level 170" in page) == bool(shown)


def test_named_reads_a_file_and_none_is_none(tmp_path: Path):
    assert calibration.named(None) is calibration.named("none") is None
    assert calibration.named(str(written(tmp_path / "lab.json"))) == STRICT
