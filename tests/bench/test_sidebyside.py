"""Several machines side by side, from documents that were written and read again."""

import copy
import json
from dataclasses import replace

import pytest

from gliobench import document, sidebyside
from gliobench.compare import CompareFigures, Row
from gliobench.doctor import FAULT, OK, Check, DoctorFigures
from gliobench.machine import Machine
from gliobench.plots import write_charts
from gliobench.report import compare_markdown, ratio, speed_markdown
from gliobench.sidebyside import read_all, report_markdown, trade_offs
from gliobench.speed import Point, SpeedFigures, Way, bottleneck
from gliorun.errors import GlioError
from gliorun.findings.agreement import Agreement

AGREEMENT = Agreement(4, 0.99, 0.99, 0.05, 0.01, 0.2, 1.0)


def row(name, tiles_s, *, agrees=True, sha256=""):
    return Row(
        name=name, sha256=sha256, precision="FP32", same_network=True, batch=1,
        tiles_s=tiles_s, ratios=tuple(t / 2 for t in tiles_s), cpu_s_a_tile=(0.1,) * len(tiles_s),
        start_s=1.0, peak_bytes=None, agreement=AGREEMENT, agrees=agrees, gmac=None,
        peak_share=None,
    )  # fmt: skip


COMPARE = CompareFigures(
    4, "drawn", 2,
    (row("Keras", (2.0, 2.0)), row("INT8", (8.0, 10.0), sha256="ab"),
     row("INT8 otherwise", (7.0, 7.0), sha256="ab"),
     row("broken", (99.0, 99.0), agrees=False)),
    {"FP32": 100.0}, (),
)  # fmt: skip
SPEED = SpeedFigures(
    slide="a.svs", width_px=1000, height_px=1000, tissue_tiles=9, model="net", model_sha256="ab",
    precision="INT8", tiles=8, rounds=2,
    ways=(
        Way("gliorun", (20.0, 22.0), (0.1, 0.1), (1.0, 1.0), 0.0, True, 10**9),
        Way("network alone", (25.0, 26.0), (0.1, 0.1), (0.8, 0.85), 0.0, True, None),
        Way("Keras script", (4.0, 4.0), (0.5, 0.5), (5.0, 5.5), 9.0, False, None),
    ),
    start_s=(1.0, 1.2), stages={"read": 0.01, "network": 0.15},
    threads=(Point(1, (20.0,), (0.1,), (1.0,)), Point(2, (21.0,), (0.1,), (1.0,))),
    requests=(), sizes=(Point(0.1, (20.0,), (0.1,), (1.0,), 10**9),),
    seconds_a_100mm2=330.0, busy=0.95, busy_alone=1.0,
    bottleneck=bottleneck({"read": 0.01, "network": 0.15}, 0.95, 1.0),
    left_out=("scaling over requests: the budget was spent",),
)  # fmt: skip
DOCTOR = DoctorFigures(
    (Check("memory", OK, "16 GB"), Check("OpenSlide library", FAULT, "3.4.1", "update")), 4.5
)
ACCURACY = {
    "colour": "card",
    "models": [{"name": "m.xml", "sha256": "ab", "card": "net", "precision": "INT8"}],
    "results": [
        {
            "model": "m.xml", "set": "gliomas", "split": "val", "seen": "no",
            "figures": {
                "images": 8, "mean": {"dice": 0.9}, "density_error_points": 1.3,
                "density_bias_points": -1.1, "class_agreement": 0.88,
                "intervals": {"dice": [0.8, 0.95], "density_error_points": [0.9, 1.8]},
            },
        }
    ],
}  # fmt: skip


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a document as a machine of that name would."""

    def written(kind, figures, processor="X"):
        machine = Machine(processor, ("avx2",), 4, {}, 16.0, 0.5, "Linux", "3.11")
        envelope = document.Envelope(
            1, kind, "2026-01-02T03:04:05+00:00", machine, {"gliorun": "1"}
        )
        values = document.as_values(envelope, DOCTOR)
        values["figures"] = figures if isinstance(figures, dict) else document.as_values(
            envelope, figures
        )["figures"]  # fmt: skip
        path = tmp_path / f"{kind}-{processor}.json"
        document.write(path, values)
        return path

    return written


def test_machines_have_a_letter_each_and_stand_side_by_side(write):
    text = report_markdown(
        read_all([write("compare", COMPARE), write("compare", COMPARE, "Y"), write("speed", SPEED)])
    )
    assert "| A | X (avx2), 4 cores" in text
    assert "| B | Y (avx2), 4 cores" in text
    line = next(line for line in text.splitlines() if line.startswith("| INT8 |"))
    cell = "0.100 (0.100–0.100) CPU s; 9.0 (8.0–10.0), × 4.50 (4.00–5.00)"
    assert line.count(cell) == 2
    assert "| A | a.svs, net, INT8 | 0.100 (0.100–0.100) | 21.0 (20.0–22.0) | 0.82" in text


def test_what_disagrees_is_shown_so_and_not_ranked(write):
    text = report_markdown(read_all([write("compare", COMPARE), write("speed", SPEED)]))
    assert "99.0 (99.0–99.0) ✗ disagrees, not ranked" in text
    job = next(line for line in text.splitlines() if line.startswith("| A | a.svs"))
    assert "✗ disagrees, not ranked" in job
    assert "| Keras script ✗ disagrees |" in speed_markdown(SPEED)
    assert "Left out: scaling over requests" in speed_markdown(SPEED)


def test_the_shares_of_the_stages_are_what_the_bottleneck_says():
    text = speed_markdown(SPEED)
    assert "| read | 10.00 | 6.2% |\n| network | 150.00 | 93.8% |\n\n" in text
    assert "Bottleneck: network: 94% of the CPU time of all stages." in text
    assert "Each stage alone, together 160.00 ms; the whole job takes 100.00 ms of CPU" in text


def test_cpu_seconds_lead_where_other_programs_ran():
    text = speed_markdown(SPEED)
    assert "**330 s for 100 mm²** of tissue (from 21.0 (20.0–22.0) tiles/s, after" in text
    busy = speed_markdown(replace(SPEED, busy_alone=0.4))
    # (330 - 1.1) s of 21 tiles/s, 0.1 CPU s each
    assert (
        "**691 CPU s for 100 mm²** of tissue. Other programs ran, the network alone had 40%" in busy
    )
    head = next(line for line in text.splitlines() if line.startswith("| way "))
    assert head.split(" | ")[1:4] == ["CPU s a tile", "takes × gliorun's CPU", "tiles/s"]
    line = next(line for line in text.splitlines() if line.startswith("| network alone |"))
    assert line.split(" | ")[1:3] == ["0.100 (0.100–0.100)", "1.00 (1.00–1.00)"]


def test_a_ratio_whose_rounds_differ_too_much_is_called_worthless(write):
    assert ratio((2.0, 3.0)) == "2.50 (2.00–3.00)"
    assert ratio((9.1, 12.0, 16.2)) == "worthless (9.10–16.20)"
    rows = (row("Keras", (2.0, 2.0)), row("INT8", (18.0, 32.0)))
    figures = replace(COMPARE, rows=rows)
    assert "| worthless (9.00–16.00) |" in compare_markdown(figures)
    assert "18.0–32.0), × worthless (9.00–16.00)" in report_markdown(
        read_all([write("compare", figures)])
    )
    ways = (*SPEED.ways[:1], replace(SPEED.ways[1], ratios=(0.4, 0.8)))
    assert "| worthless (0.40–0.80) |" in speed_markdown(replace(SPEED, ways=ways))


def test_doctor_and_accuracy_are_summed_up(write):
    text = report_markdown(read_all([write("doctor", DOCTOR), write("accuracy", ACCURACY)]))
    assert "| A | NO | 4.5 | OpenSlide library: 3.4.1 |" in text
    assert "| A | gliomas val | m.xml | 8 | 0.900 | 1.30 (-1.10) | 88% |" in text


def test_accuracy_against_speed_joins_models_by_their_hash(write):
    points_by_set = trade_offs(read_all([write("accuracy", ACCURACY), write("compare", COMPARE)]))
    (point,) = points_by_set["gliomas val"]
    assert (point.name, point.tiles_s, point.error_points) == ("INT8", (8.0, 10.0), 1.3)
    assert point.interval == (0.9, 1.8)
    other = copy.deepcopy(ACCURACY)
    other["models"][0]["sha256"] = "cd"
    assert trade_offs(read_all([write("accuracy", other), write("compare", COMPARE)])) == {}


def test_every_chart_is_drawn(write, tmp_path):
    measured = read_all(
        [
            write("compare", COMPARE), write("compare", COMPARE, "Y"), write("speed", SPEED),
            write("accuracy", ACCURACY), write("doctor", DOCTOR),
        ]
    )  # fmt: skip
    files = write_charts(tmp_path / "charts", measured)
    assert {file.name for file in files} == {
        "compare-A.png", "compare-B.png", "speed-A.png", "machines.png", "accuracy-speed.png",
    }  # fmt: skip
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)
    twice = write_charts(tmp_path / "charts", [measured[0], measured[0]])
    assert [file.name for file in twice] == ["compare-A.png", "compare-A2.png", "machines.png"]


def test_a_folder_for_charts_that_cannot_be_made_is_named(write, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(GlioError, match="file: cannot be written"):
        write_charts(tmp_path / "file", read_all([write("speed", SPEED)]))


def test_nothing_other_kinds_and_damaged_figures_are_refused(write, tmp_path):
    with pytest.raises(GlioError, match="at least one JSON file"):
        read_all([])
    with pytest.raises(GlioError, match=r"other-X\.json: is of kind 'other'; known: doctor"):
        read_all([write("other", DOCTOR)])
    path = write("speed", SPEED)
    values = json.loads(path.read_text(encoding="utf-8"))
    values["figures"]["ways"][0]["tiles_s"] = "fast"
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(
        GlioError, match=r"speed-X\.json: Expected `array`, got `str` - at `\$\.ways\[0\]\.tiles_s`"
    ):
        read_all([path])
    del values["figures"]
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(GlioError, match="Expected `object`, got `null`"):
        read_all([path])


def test_the_schema_has_every_kind():
    schemas = sidebyside.schema()["oneOf"]
    assert [one["title"] for one in schemas] == [
        "doctor", "compare", "speed", "tune", "accuracy",
    ]  # fmt: skip
    for one in schemas:
        assert {"format", "kind", "made", "machine", "versions", "figures"} == set(one["required"])
    json.dumps(schemas)
