"""The report says what was measured, also in a browser, and asks the network for nothing."""

from __future__ import annotations

import base64
import gzip
import io
import json
import math
import subprocess
import sys
from dataclasses import asdict, replace
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path

import numpy as np
import pypdfium2 as pdfium
import pytest
import shapely
from PIL import Image

from browsers import TOO_DARK, WIDER_THAN_ITS_PLACE
from gliorun.errors import GlioError
from gliorun.findings.evidence import Choice, Exhibit
from gliorun.findings.hotspots import HotSpot, find_fields, find_hot_spots
from gliorun.findings.nuclei import NucleusCounts, compare_counts
from gliorun.findings.regions import RegionDifference, RegionResult
from gliorun.measuring.density import CLASS_NAMES, DensityMap, classify
from gliorun.measuring.tile import Status
from gliorun.measuring.tissue import Tissue
from gliorun.model import shipped
from gliorun.model.card import ModelCard, sha256_of
from gliorun.qualitylimits import QualityLimits
from gliorun.reading.regions import Region
from gliorun.reading.scale import Scale
from gliorun.reading.tiles import TileGrid, TileSpec
from gliorun.writers import palette, viewer
from gliorun.writers.html import write_report
from gliorun.writers.result import Result

TILE_PX = 100
COLUMNS, ROWS = 12, 7
SIZE_L0 = (1150, 350)
SCALE = Scale(0.25, 0.5, "slide")
"""Slide px twice as high as wide, and the last tiles stick out: 0.2875 x 0.175 mm."""
SLIDE_COLOUR = (200, 120, 180)
CARD = ModelCard("fake", TILE_PX, 0.25, None, intended_use="Research <use> only")
DENSE = (2, 7)
UNREADABLE = (4, 1)
EMPTY = (5, 9)
HOSTILE = (
    '"><script>alert(1)</script>.svs',
    "</script><script>document.title='x'</script>",
    "<img src=x onerror=alert(1)>&amp;{{ 7*7 }}{% x %}'\"\\u003c",
    "slide\u2028神経膠腫 é.svs",
)


def density_map(cell_px: int = TILE_PX) -> DensityMap:
    """Return a map whose densities all differ; row 0 is the least dense."""
    grid = TileGrid.over(SIZE_L0, (SCALE.x_mpp, SCALE.y_mpp), TILE_PX, 0.25)
    assert (grid.columns, grid.rows) == (COLUMNS, ROWS)
    density = DensityMap(grid, TILE_PX, cell_px)
    density.status[:] = Status.MEASURED
    density.status[UNREADABLE] = Status.UNREADABLE
    density.status[EMPTY] = Status.NO_TISSUE
    rows, columns = density.valid_px.shape
    density.valid_px[:] = cell_px**2
    density.nucleus_px[:] = (
        np.arange(rows * columns).reshape(rows, columns) * cell_px**2 // (4 * rows * columns)
    )
    n = density.cells_a_tile
    density.nucleus_px[DENSE[0] * n : (DENSE[0] + 1) * n, DENSE[1] * n : (DENSE[1] + 1) * n] = (
        cell_px**2 * 7 // 10
    )
    without = density.cell_status != Status.MEASURED
    density.valid_px[without] = density.nucleus_px[without] = 0
    return density


def result_of(density: DensityMap, **changes: object) -> Result:
    width, height = density.grid.size_l0
    overview = np.full((70, 115, 4), (*SLIDE_COLOUR, 255), dtype=np.uint8)
    tissue = Tissue(np.arange(70 * 115).reshape(70, 115) < 70 * 115 / 4, (115 / width, 70 / height))
    spot = HotSpot(1, 500, 100, 400, 100, "C4", 0.31, 0.27, 0.36, 0.875, 0.01)
    run = {
        "started_at": "today",
        "model": {"parity": {"dice": 0.98765432, "tiles": None}, "quantised": True},
        "hot_spots": [{"rank": 1, "square": "C4"}, {"rank": 2, "square": "A1"}],
        "warnings": ["one", "two"],
        "numbers": [1, 1.5],
    }
    warnings = ("a <warning>",)
    made = Result("slide.svs", density, SCALE, tissue, overview, CARD, (spot,), warnings, run)
    return replace(made, **changes)


@pytest.fixture
def result() -> Result:
    return result_of(density_map())


class Reader(HTMLParser):
    """What a page holds: its elements with their attributes, and its text outside scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts[-1] += data
        elif self.cdata_elem is None and data.strip():
            self.words.append(data.strip())

    def after(self, *words: str) -> str:
        """Return the text that follows some texts in a row."""
        for at in range(len(self.words) - len(words)):
            if tuple(self.words[at : at + len(words)]) == words:
                return self.words[at + len(words)]
        raise AssertionError(f"{words} not in {self.words}")


def read(tmp_path: Path, result: Result, **more: str) -> Reader:
    path = tmp_path / "report.html"
    write_report(path, result, **more)
    return Reader(path.read_text(encoding="utf-8"))


def drawn(page: Reader) -> dict[str, np.ndarray]:
    """Return the arrays that the map is drawn from, by the name of their column."""
    start = page.scripts[-1].index('{"report":')
    document, _ = json.JSONDecoder().raw_decode(page.scripts[-1][start:])
    by_name = {}

    def search(value: object) -> None:
        if isinstance(value, dict):
            for name, column in value.get("entries", []):
                item = column[0] if isinstance(column, list) and column else column
                if isinstance(item, dict) and item.get("type") == "ndarray":
                    content = gzip.decompress(base64.b64decode(item["array"]["data"]))
                    array = np.frombuffer(content, item["dtype"]).reshape(item["shape"])
                    by_name.setdefault(name, array)  # the heatmap and the hatching come first
            for part in value.values():
                search(part)
        elif isinstance(value, list):
            for part in value:
                search(part)

    search(document)
    return by_name


def test_the_map_holds_the_density_and_the_class_of_every_tile(tmp_path, result):
    density = result.density
    arrays = drawn(read(tmp_path, result))
    has_value = ~np.isnan(density.density)
    assert has_value.sum() == COLUMNS * ROWS - 2
    np.testing.assert_array_equal(arrays["kind"][has_value], classify(density.density)[has_value])
    np.testing.assert_allclose(
        arrays["density"][has_value] / 1000, density.density[has_value], rtol=0, atol=0.0005001
    )
    assert (arrays["density"][~has_value] == 65535).all()
    assert arrays["kind"][UNREADABLE] == len(CLASS_NAMES) + Status.UNREADABLE
    assert arrays["kind"][EMPTY] == len(CLASS_NAMES) + Status.NO_TISSUE


def test_every_status_has_a_number_that_names_it():
    assert [status.value for status in Status] == list(range(len(Status)))


def test_tiles_without_a_value_are_hatched_where_they_lie(tmp_path):
    density = density_map()
    density.status[4, 1:4] = density.status[6, 9] = Status.UNREADABLE
    arrays = drawn(read(tmp_path, result_of(density)))
    tile_mm = 0.025
    corners = np.stack([arrays["x"], arrays["y"]], axis=1) / tile_mm
    assert corners.round(4).tolist() == [
        [0, 5], [1, 5], [1, 4], [4, 4], [4, 5], [0, 5],
        [0, 7], [9, 7], [9, 6], [10, 6], [10, 7], [0, 7],
    ]  # fmt: skip


def test_finer_cells_are_drawn_as_they_are(tmp_path):
    density = density_map(cell_px=25)
    assert drawn(read(tmp_path, result_of(density)))["kind"].shape == (4 * ROWS, 4 * COLUMNS)


def test_the_shares_of_the_classes_stand_beside_their_colours(tmp_path, result):
    page = read(tmp_path, result)
    shares = result.density.class_shares()
    for name, share in zip(CLASS_NAMES, shares, strict=True):
        assert page.after(name) == f"{100 * share:.1f} %"
    swatches = [attrs["style"] for tag, attrs in page.elements if tag == "i" and "style" in attrs]
    assert swatches == [
        f"background: {colour}" for colour in palette.class_colours(palette.DEFAULT)[::-1]
    ]


def test_another_palette_colours_swatches_and_map(tmp_path, result):
    page = read(tmp_path, result, palette_name="paper-like")
    for colour in palette.class_colours("paper-like"):
        assert f'"{colour}"' in page.scripts[-1]
        assert ("i", {"style": f"background: {colour}"}) in page.elements
    with pytest.raises(GlioError, match="rainbow"):
        write_report(tmp_path / "none.html", result, "rainbow")


def test_key_figures_and_quality_are_those_of_the_slide(tmp_path, result):
    page = read(tmp_path, result)
    density = result.density
    assert page.after("mean density") == f"{100 * density.mean_density():.1f} %"
    assert page.after("tiles measured") == "82"
    assert page.after("slide") == "0.287 × 0.175 mm"
    assert page.after("µm/px (slide)") == "0.25 × 0.5"
    assert page.after("tissue on the slide") == "25.0 %"
    assert page.after("tiles · no tissue") == "1"
    assert page.after("tiles · measured") == "82"
    assert page.after("tiles · unreadable") == "1"
    assert not any("fold" in word for word in page.words)  # no tile was
    assert "a <warning>" in page.words
    assert "tissue without a value" in page.words
    assert "Nucleus density report. Research <use> only" in page.words


def test_counted_nuclei_are_set_beside_their_area(tmp_path, result):
    density = result.density
    per_cell = np.arange(density.valid_px.size).reshape(density.valid_px.shape)
    counts = NucleusCounts(per_cell, crossing=per_cell.sum() // 4)
    comparison = compare_counts(counts, density, SCALE)
    page = read(tmp_path, replace(result, counts=counts, comparison=comparison))
    assert page.after("nuclei, each once") == f"{per_cell.sum():,}"
    assert page.after("of them across the border of two cells") == "25.0 %"
    other = page.after("tissue whose class would differ by count")
    assert other == f"{100 * comparison.other_class_share:.1f} %" != "0.0 %"
    nuclei = drawn(page)["nuclei"]
    wanted = np.where(np.isnan(density.density), -1, per_cell)
    np.testing.assert_array_equal(nuclei, wanted)


def test_nuclei_that_were_not_counted_are_not_mentioned(tmp_path, result):
    page = read(tmp_path, result)
    assert not any("Nuclei counted" in word for word in page.words)
    assert (drawn(page)["nuclei"] == -1).all()


def test_the_hot_spot_list_names_place_and_density(tmp_path, result):
    page = read(tmp_path, result)
    at = page.words.index("C4")
    shown = ["1", "C4", "31.0 %", "27.0–36.0", "88 %", "500, 100"]
    assert page.words[at - 1 : at + 5] == shown


def test_the_run_record_is_shown_whole(tmp_path, result):
    page = read(tmp_path, result)
    assert page.after("The whole run record", "run", "started at") == "today"
    assert page.after("model", "parity · dice") == "0.987654"
    assert page.after("parity · tiles") == "none"
    assert page.after("quantised") == "yes"
    assert page.after("hot spots", "1") == "rank 1; square C4"
    assert page.after("warnings") == "one, two"
    assert ("details", {"class": "record"}) in page.elements  # folded


def test_the_run_record_stands_in_words(tmp_path, result):
    run = {
        "started_at": "2026-11-30T23:05:06Z",
        "started_at_local": "2026-12-01T01:05:06+02:00",
        "slide": {"width_px": 1150, "height_px": 350, "vendor": "aperio", "objective_power": 40.0},
        "scale": {"x_mpp": 0.25, "y_mpp": 0.5, "source": "slide"},
        "settings": {"tissue_mask": None, "quality": asdict(QualityLimits())},
        "seconds": {"open": 1.0, "measure": 2.5, "waiting for reading": 2.0},
    }
    page = read(tmp_path, replace(result, run=run))
    assert page.after("Measured") == (
        "1 December 2026, 01:05 by the computer's clock (UTC+0200), 30 November 2026, 23:05 UTC."
    )
    assert page.after("How this was made", "Measured", page.after("Measured")) == "Slide"
    assert page.after("Measured", page.after("Measured"), "Slide") == (
        "1,150 × 350 px, 0.25 × 0.5 µm/px from the slide itself. Scanner's format aperio, "
        "objective 40x."
    )
    assert page.after("Model").startswith("fake. Its tiles of 100 px at 0.25 µm/px are 25 µm wide.")
    assert "more than 2 % ink" in page.after("Left out")
    assert page.after("Computer").startswith("3.5 s (open 1.0 s, measure 2.5 s)")


def test_a_shipped_model_has_the_name_that_users_type(tmp_path, result):
    weights = sha256_of(shipped.DEFAULT_MODEL.with_suffix(".bin"))
    card = replace(CARD, precision="INT8", weights_sha256=weights)
    page = read(tmp_path, replace(result, card=card))
    assert page.after("Model").startswith(f"student (fake), INT8, weights {weights[:12]}.")
    assert page.after("numbers") == "1, 1.5"


def test_a_slide_without_hot_spots_or_any_value_has_a_report(tmp_path):
    density = density_map()
    density.status[:] = Status.UNREADABLE
    density.valid_px[:] = density.nucleus_px[:] = 0
    page = read(tmp_path, result_of(density, hot_spots=(), run={}))
    assert page.after("mean density") == "no value"
    assert "None: no field holds enough measured tissue." in page.words
    assert page.after("20–100 %") == "0.0 %"


def test_a_slide_of_one_tile_has_a_report(tmp_path):
    density = DensityMap(TileGrid((3, 2), (100.0, 100.0)), TILE_PX, TILE_PX)
    density.status[:] = Status.MEASURED
    page = read(tmp_path, result_of(density, hot_spots=()))
    assert page.after("mean density") == "no value"
    assert drawn(page)["kind"].tolist() == [[len(CLASS_NAMES) + Status.MEASURED]]


@pytest.mark.parametrize("name", HOSTILE)
def test_text_of_slide_card_and_run_is_shown_as_text(tmp_path, result, name):
    harmless = read(tmp_path, result)
    hostile = replace(
        result,
        slide_name=name,
        warnings=(name,),
        card=replace(CARD, intended_use=name),
        run={**result.run, name: name, "nested": {name: [name]}},
    )
    page = read(tmp_path, hostile)
    assert page.words.count(name.strip()) == 6  # heading, warning, twice as key, twice as value
    assert f"Nucleus density report. {name}" in page.words
    assert len(page.scripts) == len(harmless.scripts) > 2
    assert {tag for tag, _ in page.elements} == {tag for tag, _ in harmless.elements}
    assert not [attrs for _, attrs in page.elements if any(key.startswith("on") for key in attrs)]
    assert ("h1", {"title": name}) in page.elements


def test_nothing_is_loaded_from_anywhere(tmp_path, result):
    page = read(tmp_path, result)
    assert not [attrs for _, attrs in page.elements if {"src", "href"} & set(attrs)]
    assert "link" not in {tag for tag, _ in page.elements}
    policy = next(attrs["content"] for tag, attrs in page.elements if "http-equiv" in attrs)
    assert policy.startswith("default-src 'none'; img-src data: blob:;")


def test_the_same_result_gives_the_same_bytes(tmp_path, result):
    for name in "ab":
        write_report(tmp_path / name, result)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_drawing_library_is_imported_only_when_a_report_is_written():
    code = "import sys, gliorun.job; sys.exit('bokeh' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def _evidence(random: np.random.Generator) -> tuple[Exhibit, ...]:
    """Return as many tiles of 480 px as are ever shown, as detailed as tissue is."""
    shown = []
    for column in range(12):
        choice = Choice(TileSpec(column, 0, 0, 0, 480, 480), "Typical", "A1", 0.2, 0.18, 0.22)
        coarse = random.integers(60, 250, (240, 240, 3), dtype=np.uint8)
        pixels = np.asarray(Image.fromarray(coarse).resize((480, 480)))
        nuclei = np.asarray(Image.fromarray(coarse[:60, :60, 0]).resize((480, 480)))
        shown.append(Exhibit(choice, pixels, nuclei >= np.array([200, 190, 180])[:, None, None]))
    return tuple(shown)


@pytest.mark.parametrize("cell_px", [120, 30])
def test_the_largest_slides_stay_under_12_mb(tmp_path, cell_px):
    """A noisy slide of 100,000 x 80,000 px, 834 x 667 tiles; measured: 6.1 MB with nuclei."""
    random = np.random.default_rng(0)
    density = DensityMap(TileGrid((100_000, 80_000), (120.0, 120.0)), 120, cell_px)
    density.status[:] = Status.MEASURED
    density.status[random.random(density.status.shape) < 0.02] = Status.UNREADABLE
    density.valid_px[density.cell_status == Status.MEASURED] = cell_px**2
    noise = np.abs(random.normal(0.1, 0.1, density.valid_px.shape))
    density.nucleus_px[:] = np.minimum(noise, 1) * density.valid_px
    smooth = random.integers(60, 250, (410, 512, 3), dtype=np.uint8)
    overview = np.asarray(Image.fromarray(smooth).resize((2048, 1638)).convert("RGBA"))
    result = result_of(density)
    if cell_px == 120:
        per_cell = random.integers(0, 99, density.valid_px.shape)
        result = replace(result, counts=NucleusCounts(per_cell, crossing=9))
    result = replace(
        result,
        overview=overview,
        hot_spots=find_hot_spots(density, Scale(0.25, 0.25, "slide")),
        evidence=_evidence(random),
    )
    path = tmp_path / "large.html"
    write_report(path, result)
    assert path.stat().st_size < 12e6
    assert path.read_text(encoding="utf-8").count('<img class="tile"') == 12
    arrays = drawn(Reader(path.read_text(encoding="utf-8")))
    assert arrays["kind"].shape == (667, 834)
    n = 120 // cell_px
    sums = [values[:n, 5 * n : 6 * n].sum() for values in (density.nucleus_px, density.valid_px)]
    assert arrays["density"][0, 5] == round(1000 * sums[0] / sums[1])


# --- in a browser ----------------------------------------------------------------------------


class View:
    """A report that is open in the browser, and what it complained of and asked for."""

    def __init__(self, browser, path: Path, width: int = 1440, height: int = 900) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page = browser.new_page(viewport={"width": width, "height": height})
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append("dialog"), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_function("Bokeh.documents.length && Bokeh.documents[0].is_idle")
        self.settle()

    def _hear(self, message) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def settle(self) -> None:
        """Wait until what was asked for has been painted."""
        self.page.wait_for_timeout(300)
        self.page.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")

    def on_plot(self, expression: str):
        """Evaluate a JavaScript expression of `plot` and its `view`."""
        return self.page.evaluate(f"""() => {{
            const plot = Bokeh.documents[0].roots().find(root => root.toolbar != null)
            const view = Bokeh.index.find_one(plot)
            return {expression}
        }}""")

    def range_mm(self) -> tuple[float, float, float, float]:
        """Return left, right, top and bottom of what is shown."""
        left, right = self.on_plot("[plot.x_range.start, plot.x_range.end]")
        bottom, top = self.on_plot("[plot.y_range.start, plot.y_range.end]")
        return left, right, top, bottom

    def area_mm2(self) -> float:
        left, right, top, bottom = self.range_mm()
        return (right - left) * (bottom - top)

    def stretch(self) -> float:
        """Return how much longer a mm is along x than along y."""
        left, right, top, bottom = self.range_mm()
        width, height = self.on_plot("[plot.inner_width, plot.inner_height]")
        return (width / (right - left)) / (height / (bottom - top))

    def place(self, x_mm: float, y_mm: float) -> tuple[float, float]:
        """Return where a point of the slide lies on the page, in px."""
        left, right, top, bottom = self.range_mm()
        x, y, width, height = self.on_plot(
            "(({left, top}, box) => [left + box.left, top + box.top, box.width, box.height])"
            "(view.canvas_view.el.getBoundingClientRect(), view.frame.bbox)"
        )
        return (
            x + (x_mm - left) / (right - left) * width,
            y + (y_mm - top) / (bottom - top) * height,
        )

    def tile(self, row: int, column: int) -> tuple[float, float]:
        """Return a point of a tile of 0.025 mm, off its middle and off every line."""
        return self.place((column + 0.4) * 0.025, (row + 0.4) * 0.025)

    def colour(self, row: int, column: int) -> tuple[int, ...]:
        with Image.open(io.BytesIO(self.page.screenshot())) as image:
            return image.convert("RGB").getpixel(tuple(map(round, self.tile(row, column))))

    def shades(self, row: int, column: int) -> set[tuple[int, ...]]:
        """Return the two commonest colours in the middle of a tile."""
        x, y = map(round, self.tile(row, column))
        with Image.open(io.BytesIO(self.page.screenshot())) as image:
            counts = image.convert("RGB").crop((x - 14, y - 14, x + 14, y + 14)).getcolors()
        return {colour for _, colour in sorted(counts)[-2:]}

    def tooltip(self, row: int, column: int) -> str:
        self.page.mouse.move(*self.tile(row, column))
        self.settle()
        return " ".join(self.page.locator(".bk-tooltip-content").inner_text().split())

    def turn_wheel(self, px: int) -> None:
        """Turn the wheel in the middle of what is shown; below 0 it shows less."""
        left, right, top, bottom = self.range_mm()
        self.page.mouse.move(*self.place((left + right) / 2, (top + bottom) / 2))
        self.page.mouse.wheel(0, px)
        self.settle()

    def set_opacity(self, key: str) -> None:
        """Press a key on the slider: Home is 0 %, End is 100 %."""
        self.page.locator(".noUi-handle").press(key)
        self.settle()

    def show_hot_spot(self, rank: int) -> None:
        self.page.get_by_role("button", name=f"Show hot spot {rank}").click()
        self.settle()


@pytest.fixture
def opened(browser, tmp_path, result):
    """Give a function that writes a result's report and opens it, by default of `result`."""
    views = []

    def open_(what: Result = result, width: int = 1440, height: int = 900) -> View:
        write_report(tmp_path / "report.html", what)
        views.append(View(browser, tmp_path / "report.html", width, height))
        return views[-1]

    yield open_
    for view in views:
        view.page.close()


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))


@pytest.mark.release
def test_a_report_opens_without_complaint_or_request_and_shows_the_whole_slide(opened):
    view = opened()
    view.tooltip(*DENSE)
    view.set_opacity("Home")
    view.show_hot_spot(1)
    view.page.get_by_title("Reset").click()
    view.settle()
    left, right, top, bottom = view.range_mm()
    assert left < 0 < 0.2875 < right
    assert top < 0 < 0.175 < bottom
    assert view.complaints == []
    assert view.requests == [view.page.url]


@pytest.mark.release
def test_the_slider_leads_from_the_slide_to_the_colours_of_the_classes(opened, result):
    view = opened()
    classes = classify(result.density.density)
    colours = palette.class_colours(palette.DEFAULT)
    view.set_opacity("Home")
    assert view.colour(*DENSE) == pytest.approx(SLIDE_COLOUR, abs=3)
    view.set_opacity("End")
    for row, column in (DENSE, (0, 0), (3, 0), (0, 10), (6, 9), (4, 0), (4, 2), (5, 1)):
        assert view.colour(row, column) == rgb(colours[classes[row, column]])
    assert len({classes[DENSE], classes[0, 0], classes[3, 0]}) == 3
    shades = view.shades(*UNREADABLE)
    assert rgb(palette.NO_VALUE) in shades
    assert min(map(sum, shades)) < 300  # the lines of the hatching
    assert view.colour(*EMPTY) != pytest.approx(SLIDE_COLOUR, abs=30)  # pale under the heatmap


@pytest.mark.release
def test_pointing_at_a_tile_tells_its_density_class_square_and_corner(opened):
    view = opened()
    assert view.tooltip(*DENSE) == "70.0 % class 20–100 % square C8 x 700, y 100 px"
    # the 64th of 84 tiles that rise from 0 to 25 %: floor(10,000 px * 63 / 336) is 1,875 px
    assert view.tooltip(5, 3) == "18.8 % class 16–20 % square F4 x 300, y 250 px"
    assert view.tooltip(*UNREADABLE) == "no value unreadable square E2 x 100, y 200 px"
    assert view.tooltip(*EMPTY) == "no value no tissue square F10 x 900, y 250 px"


@pytest.mark.release
def test_pointing_at_a_tile_tells_its_nuclei_if_they_were_counted(opened, result):
    per_cell = np.full(result.density.valid_px.shape, 12, np.int64)
    view = opened(replace(result, counts=NucleusCounts(per_cell, 0)))
    assert view.tooltip(*DENSE) == "70.0 % class 20–100 % 12 nuclei square C8 x 700, y 100 px"
    assert view.tooltip(*UNREADABLE) == "no value unreadable square E2 x 100, y 200 px"


@pytest.mark.release
def test_clicking_a_hot_spot_shows_it_again_and_again(opened, result):
    density = result.density
    spots = find_fields(density, SCALE, area_mm2=0.001, count=3)
    assert len(spots) == 3
    view = opened(replace(result, hot_spots=spots))
    for spot in (*spots, spots[-1]):
        view.turn_wheel(500)
        before = view.range_mm()
        view.show_hot_spot(spot.rank)
        left, right, top, bottom = view.range_mm()
        assert (left, right, top, bottom) != pytest.approx(before)
        assert left < spot.minx * 0.00025 < (spot.minx + spot.width) * 0.00025 < right
        assert top < spot.miny * 0.0005 < (spot.miny + spot.height) * 0.0005 < bottom
        assert (left + right) / 2 == pytest.approx((spot.minx + spot.width / 2) * 0.00025)
        side_mm = math.sqrt(0.001)
        assert min(right - left, bottom - top) == pytest.approx(2 * side_mm, rel=0.02)
        assert view.stretch() == pytest.approx(1)


@pytest.mark.release
def test_a_mm_is_as_long_along_x_as_along_y_whatever_is_done(opened):
    view = opened()
    assert view.stretch() == pytest.approx(1)
    shown = view.range_mm()
    for px in (-800, -800, 2400):
        view.turn_wheel(px)
        assert view.range_mm() != pytest.approx(shown)
        assert view.stretch() == pytest.approx(1)
    area = view.area_mm2()
    for width, height in ((1100, 800), (1440, 200), (1440, 900)):
        view.page.set_viewport_size({"width": width, "height": height})
        view.settle()
        assert view.stretch() == pytest.approx(1)
        assert view.area_mm2() == pytest.approx(area)
    view.page.get_by_title("Reset").click()
    view.settle()
    assert view.range_mm() == pytest.approx(shown)


@pytest.mark.release
@pytest.mark.parametrize("size", [(420, 800), (1000, 700), (1440, 900), (1920, 1080)])
def test_the_page_is_never_wider_than_the_window(opened, result, size):
    long = replace(result, slide_name="long" * 100, run={"a": {"path": "x" * 3000}})
    view = opened(long, *size)
    view.page.locator("summary").click()  # unfolds the run record
    assert view.page.get_by_text("x" * 3000).is_visible()
    assert view.page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert view.page.evaluate(WIDER_THAN_ITS_PLACE) == []
    assert view.on_plot("plot.inner_width") > 0.5 * size[0]


def region_result(name: str) -> RegionResult:
    outline = shapely.box(0, 0, 400, 300)
    return RegionResult(
        Region(name, "Tumor", outline, np.zeros((0, 4))),
        area_mm2=1.25, tissue_mm2=1.2, density=0.2, density_low=0.18, density_high=0.22,
        class_shares=np.full(6, 1 / 6), nuclei=2100, hot_spot=None,
    )  # fmt: skip


@pytest.mark.release
@pytest.mark.parametrize("paper", ["A4", "Letter"])
@pytest.mark.parametrize(("looks", "drawn"), [("light", 0), ("dark", 4)])
def test_printed_the_map_and_its_key_stand_in_colour_on_the_first_of_two_pages(
    opened, browser, result, tmp_path, paper, looks, drawn
):
    counts = NucleusCounts(np.ones(result.density.valid_px.shape, np.int64), 0)
    many = tuple(replace(result.hot_spots[0], rank=rank) for rank in range(1, 6))
    comparison = compare_counts(counts, result.density, result.scale)
    warnings = tuple("a warning that is long" for _ in range(4))
    regions = tuple(region_result(f"Region of a long name {k}") for k in range(drawn))
    differences = tuple(
        RegionDifference(one.region.name, other.region.name, 0.021, (-0.013, 0.055), 480.0)
        for one, other in combinations(regions, 2)
    )
    view = opened(
        replace(
            result, warnings=warnings, hot_spots=many, counts=counts, comparison=comparison,
            regions=regions, differences=differences,
        )
    )  # fmt: skip
    view.page.emulate_media(color_scheme=looks)
    view.set_opacity("End")
    view.page.pdf(path=tmp_path / "printed.pdf", format=paper)
    with pdfium.PdfDocument(tmp_path / "printed.pdf") as pdf:
        assert len(pdf) <= 2
        text = pdf[0].get_textpage().get_text_range()
        last = pdf[len(pdf) - 1].get_textpage().get_text_range()
        pixels = np.asarray(pdf[0].render(scale=2).to_pil().convert("RGB")).astype(int)
    assert all(name.replace("–", "") in text.replace("–", "") for name in CLASS_NAMES)
    assert "Heatmap opacity" not in text
    assert all(of.region.name in text + last for of in regions)
    assert (last.count("[−1.3, +5.5]") + text.count("[−1.3, +5.5]")) == len(differences)
    assert (pixels[:20] == 255).all()  # the paper is white
    for colour in palette.class_colours(palette.DEFAULT):
        shown = np.abs(pixels - rgb(colour)).max(axis=2) <= 6
        height, width = shown.shape
        in_key = shown[height * 2 // 5 :, : width // 2].sum()
        assert in_key > 300, colour
        on_map = shown[: height // 2].sum()
        assert on_map > 300, colour


@pytest.mark.release
def test_on_a_dark_page_all_text_is_light(opened, result):
    view = opened()
    view.page.emulate_media(color_scheme="dark")
    view.settle()
    assert view.page.evaluate(TOO_DARK) == []
    assert view.on_plot("plot.background_fill_color") == viewer.GROUND_DARK
    view.page.emulate_media(color_scheme="light")
    view.settle()
    assert view.on_plot("plot.background_fill_color") == viewer.GROUND


@pytest.mark.release
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_runs_nothing(opened, result, name):
    run = {name: {name: name}}
    card = replace(CARD, intended_use=name)
    view = opened(replace(result, slide_name=name, warnings=(name,), card=card, run=run))
    assert view.page.title() == f"{name} – nucleus density".strip()
    assert view.page.locator("h1").text_content() == name
    assert view.complaints == []
    assert view.requests == [view.page.url]
    assert view.tooltip(*DENSE).startswith("70.0 %")


@pytest.mark.release
@pytest.mark.parametrize("size", [(60_000, 300), (250, 90), (300, 40_000)])
def test_wide_tiny_and_tall_slides_are_shown_whole(opened, size):
    density = DensityMap(TileGrid(size, (100.0, 100.0)), TILE_PX, TILE_PX)
    density.status[:] = Status.MEASURED
    density.valid_px[:] = TILE_PX**2
    view = opened(result_of(density, hot_spots=()))
    left, right, top, bottom = view.range_mm()
    width_mm, height_mm = size[0] * 0.00025, size[1] * 0.0005
    assert left < 0 < width_mm < right
    assert top < 0 < height_mm < bottom
    assert min((right - left) / width_mm, (bottom - top) / height_mm) < 1.1
    assert view.complaints == []
