"""The page in a browser: what it draws, what it says, and that it asks nobody else."""

from __future__ import annotations

import base64
import io
import re
import time
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

import slides
import viewing
from browsers import TOO_DARK, WIDER_THAN_ITS_PLACE
from gliobench.giant import GiantSpec, write_giant
from gliorun.measuring.within import pixels_within
from gliorun.viewer.session import Session

pytestmark = pytest.mark.release
SCREEN = {"width": 1400, "height": 1000}
SLIDES = {
    "gbm40_mosaic_aperio_style.svs": None,
    "CMU-1-Small-Region.svs": None,
    "tcga-cr-7395-01a-01-ts1.svs": 0.5,
}
"""Real slides, and the scale of one that states none."""


class Page:
    """A page of the viewer, and what went wrong on it."""

    def __init__(self, page, url: str) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.goto(f"{url}view/0/")

    def until(self, expression: str, patience_s: float = viewing.PATIENCE_S) -> None:
        """Wait until an expression is true; the policy of the page lets no string be evaluated."""
        until = time.monotonic() + patience_s
        while not self.page.evaluate(expression):
            assert time.monotonic() < until, expression
            self.page.wait_for_timeout(30)

    def ask(self, expression: str):
        return self.page.evaluate(expression)

    def settle(self) -> None:
        """Wait until the view stands still and all in sight has come."""
        self.page.wait_for_timeout(60)
        self.until("document.getElementById('slide').dataset.calm === 'true'")

    def segmented(self) -> None:
        """Wait until every tile in sight is segmented."""
        self.until("document.body.dataset.outlines === 'true'")
        self.settle()
        self.until("viewer.outlines.isNear && viewer.outlines.sight().missing === 0")
        self.page.wait_for_timeout(150)

    def colours(self) -> np.ndarray:
        """Return the pixels of the canvas, (H, W, 3)."""
        url = self.ask("document.getElementById('slide').toDataURL('image/png')")
        png = base64.b64decode(url.partition(",")[2])
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


@contextmanager
def shown(browser, session, folder, **context):
    with viewing.served(session, folder) as served:
        opened = browser.new_context(viewport=SCREEN, **context)
        page = Page(opened.new_page(), served.url)
        try:
            yield page
            assert page.complaints == []
            assert {url.split("/")[2] for url in page.requests if url.startswith("http")} == {
                f"127.0.0.1:{served.port}"
            }
        finally:
            opened.close()


@pytest.fixture(scope="module")
def session(small_slide, engine):
    plan = viewing.plan_of(cell_px=120)
    with viewing.session_of(small_slide.path, plan, engine) as session:
        yield session


@pytest.fixture
def page(browser, session, tmp_path):
    with shown(browser, session, tmp_path) as page:
        page.until("document.body.dataset.stage === 'finished'")
        yield page


def text(page: Page, name: str) -> str:
    return page.ask(f"document.getElementById('{name}').textContent")


def closer(page: Page) -> None:
    """Go to a pixel of the slide a pixel of the screen."""
    page.page.keyboard.press("1")
    page.segmented()


def test_outlines_hold_exactly_the_pixels_of_the_mask_at_every_level(page, session):
    closer(page)
    side = session.surveyed.card.tile_px
    tiles = page.ask(
        "[...viewer.outlines.tiles.values()].filter(t => t.cells).map(t => [t.column, t.row])"
    )
    column, row = tiles[0]
    message = viewing.asked(session, [(column, row)])[column, row]
    _, levels, _ = viewing.planes_of(message, side)
    outlines = session.surveyed.outlines
    for level in (outlines.nucleus, outlines.inner, outlines.outer, 60, 200):
        page.ask(f"viewer.setLevel({level})")
        lines = page.ask(
            f"Array.from(viewer.outlines.segments(viewer.outlines.tiles.get('{column}/{row}')))"
        )
        edges = np.array(lines, np.float64).reshape(-1, 4)
        mask = levels >= level
        assert edges.size
        # an outline ends at the border of its tile, so that sides are counted from its left end
        inside = pixels_within(edges, mask.shape) ^ mask[:, :1]
        assert np.array_equal(inside, mask), level


def test_the_density_of_the_sight_is_that_of_its_pixels(page, session):
    closer(page)
    side, grid = session.surveyed.card.tile_px, session.surveyed.grid
    for level in (session.surveyed.outlines.nucleus, 90):
        page.ask(f"viewer.setLevel({level})")
        left, top, right, bottom = page.ask("viewer.view.box()")
        sight = page.ask("viewer.outlines.sight()")
        nucleus = area = 0.0
        places = [tuple(place) for place in page.ask("viewer.outlines.inSight()")]
        for (column, row), message in viewing.asked(session, places).items():
            if not viewing.header_of(message)["cells"]:
                continue
            share, levels, counts = viewing.planes_of(message, side)
            spec = grid.tile(column, row)
            x = spec.x_l0 + (np.arange(side) + 0.5) * spec.width_l0 / side
            y = spec.y_l0 + (np.arange(side) + 0.5) * spec.height_l0 / side
            seen = np.outer((y >= top) & (y < bottom), (x >= left) & (x < right)) & counts
            n = len(share)
            cells = (n, side // n, n, side // n)
            of_cells = seen.reshape(cells).sum(axis=(1, 3)) * share
            nuclei = (seen & (levels >= level)).reshape(cells).sum(axis=(1, 3))
            area += of_cells.sum()
            nucleus += np.minimum(nuclei, of_cells).sum()
        assert sight["area"] == pytest.approx(area, abs=2)
        assert sight["density"] == pytest.approx(nucleus / area, abs=1e-4)
        shown_value = float(text(page, "sight").removesuffix(" %"))
        page.page.wait_for_timeout(100)
        assert shown_value == pytest.approx(100 * nucleus / area, abs=0.06) or level == 90


def test_the_slider_moves_the_level_without_another_prediction(page, session):
    closer(page)
    before = float(text(page, "sight").removesuffix(" %"))
    page.page.locator("#level").fill("60")
    page.page.wait_for_timeout(150)
    more = float(text(page, "sight").removesuffix(" %"))
    page.page.locator("#level").fill("200")
    page.page.wait_for_timeout(150)
    less = float(text(page, "sight").removesuffix(" %"))
    assert less < before < more
    assert not session.segmenter.is_busy
    page.page.locator("#level-back").click()
    page.page.wait_for_timeout(150)
    assert float(text(page, "sight").removesuffix(" %")) == before
    assert "as measured" in text(page, "level-words")


def test_the_keys_switch_what_is_drawn(page):
    closer(page)
    yellow = np.array([255, 230, 0])

    def outlined() -> float:
        page.page.wait_for_timeout(200)
        return float((np.abs(page.colours().astype(int) - yellow).max(axis=-1) < 40).mean())

    assert outlined() > 0.001
    page.page.keyboard.press("o")
    assert outlined() < 0.0001
    assert text(page, "sight") == "–"
    page.page.keyboard.press("o")
    page.segmented()
    assert outlined() > 0.001
    page.page.keyboard.press("0")
    page.settle()
    with_map = page.colours()
    page.page.keyboard.press("m")
    page.page.wait_for_timeout(200)
    without = page.colours()
    assert np.abs(with_map.astype(int) - without).mean() > 3


def test_arrow_keys_and_clicks_go_from_hot_spot_to_hot_spot(page, session):
    spots = session.progress.hot_spots
    assert len(spots) >= 2
    for rank, key in ((1, "ArrowRight"), (2, "ArrowRight"), (1, "ArrowLeft")):
        page.page.keyboard.press(key)
        page.settle()
        spot = spots[rank - 1]
        x, y = page.ask("[viewer.view.at.x, viewer.view.at.y]")
        assert x == pytest.approx(spot["minx"] + spot["width"] / 2, abs=1)
        assert y == pytest.approx(spot["miny"] + spot["height"] / 2, abs=1)
    page.page.locator("#spots button").nth(1).click()
    page.settle()
    left, top, right, bottom = page.ask("viewer.view.box()")
    spot = spots[1]
    assert left < spot["minx"] < spot["minx"] + spot["width"] < right
    assert top < spot["miny"] < spot["miny"] + spot["height"] < bottom


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> slides.Drawn:
    """A slide of one level that is larger than its overview."""
    return slides.drawn(tmp_path_factory.mktemp("large") / "large.svs", 3000, 1600, levels=1)


def test_from_the_whole_slide_to_level_0_and_back_with_the_pixels_of_the_slide(
    browser, engine, large, tmp_path
):
    with (
        Session(large.path, viewing.plan_of(), engine) as session,
        shown(browser, session, tmp_path) as page,
    ):
        page.until("viewer.pyramid.overview.complete")
        for key in "mgo":
            page.page.keyboard.press(key)
        page.settle()
        whole = page.colours()
        page.page.keyboard.press("1")
        page.settle()
        left, top, _, _ = (round(side) for side in page.ask("viewer.view.box()"))
        x, y = 1500 - left, 800 - top
        seen = page.colours()[y - 200 : y + 200, x - 200 : x + 200].astype(int)

        def unlike(shift: int) -> float:
            slide = large.tissue.pixels[600 + shift : 1000 + shift, 1300:1700]
            return float(np.abs(seen - slide).mean())

        assert unlike(0) < 8
        assert unlike(0) < 0.6 * min(unlike(2), unlike(-2))
        assert page.ask("viewer.pyramid.kept.size") > 0
        page.page.keyboard.press("0")
        page.settle()
        # the same again, but that what was seen closer is sharper
        assert np.abs(page.colours().astype(int) - whole).mean() < 2


def test_pointing_tells_the_cell_as_the_map_has_it(page, session):
    density = session.surveyed.cells_of(session.run.density)
    row, column = np.argwhere(density.density > 0.05)[0]
    left, top, right, bottom = density.cell_box(row, column)
    x, y = page.ask(f"viewer.view.toScreen({(left + right) / 2}, {(top + bottom) / 2})")
    page.page.mouse.move(x, y)
    page.page.wait_for_timeout(50)
    tip = text(page, "tip")
    assert tip.startswith(f"{100 * density.density[row, column]:.1f} %")
    assert "class" in tip
    x_l0, y_l0 = (
        int(number.replace(",", ""))
        for number in re.search(r"x ([\d,]+), y ([\d,]+) px", tip).groups()
    )
    assert (x_l0, y_l0) == pytest.approx(((left + right) / 2, (top + bottom) / 2), abs=3)


def test_the_wheel_keeps_the_point_below_it_and_drags_move_the_slide(page):
    mouse = page.page.mouse
    mouse.move(300, 700)
    before = page.ask("viewer.view.toSlide(300, 700)")
    mouse.wheel(0, -600)
    page.settle()
    after = page.ask("viewer.view.toSlide(300, 700)")
    assert after == pytest.approx(before, abs=1)
    mouse.down()
    mouse.move(420, 640, steps=4)
    mouse.up()
    page.settle()
    assert page.ask("viewer.view.toSlide(420, 640)") == pytest.approx(after, abs=1)


def test_a_field_is_marked_and_taken_back_and_names_its_command(page, tmp_path):
    page.page.keyboard.press("f")
    page.until("viewer.drawing.fields.length === 1")
    file = tmp_path / "slide.fields.geojson"
    assert file.exists()
    assert str(file) in text(page, "annotate")
    assert "1 field in" in text(page, "fields")
    page.page.locator("#add-field").click()
    page.until("viewer.drawing.fields.length === 0")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 900, 600])
def test_nothing_sticks_out_and_all_can_be_read(browser, session, tmp_path, scheme, width):
    with shown(browser, session, tmp_path, color_scheme=scheme) as page:
        page.page.set_viewport_size({"width": width, "height": 1000})
        page.until("document.body.dataset.stage === 'finished'")
        page.settle()
        assert page.ask(WIDER_THAN_ITS_PLACE) == []
        if scheme == "dark":
            assert page.ask(TOO_DARK) == []


def test_two_pages_at_once_have_each_their_own_tiles(browser, session, tmp_path):
    with shown(browser, session, tmp_path) as one, shown(browser, session, tmp_path) as two:
        for page, x in ((one, 500), (two, 1300)):
            page.until("document.body.dataset.outlines === 'true'")
            page.ask(f"viewer.view.go({{x: {x}, y: 650, scale: 1}}, true)")
        for page in (one, two):
            page.segmented()
            assert page.ask("viewer.outlines.sight().area") > 0


def test_without_its_server_the_page_says_so(browser, small_slide, tmp_path):
    with viewing.typed(tmp_path, str(small_slide.path), "--view") as (_, url):
        opened = browser.new_context(viewport=SCREEN)
        page = Page(opened.new_page(), url)
        page.until("document.body.dataset.stage === 'finished'")
    page.until("!document.getElementById('fault').hidden")
    assert "has been stopped" in text(page, "fault")
    opened.close()


@pytest.mark.parametrize("name", SLIDES)
def test_a_real_slide_in_all_its_zooms(browser, engine, shared_slides, tmp_path, name):
    with (
        viewing.session_of(
            shared_slides / name, viewing.plan_of(mpp=SLIDES[name]), engine
        ) as session,
        shown(browser, session, tmp_path) as page,
    ):
        page.until("document.body.dataset.stage === 'finished'")
        for zoom in session.pyramid.zooms:
            page.ask(f"viewer.view.go({{scale: {2.0**-zoom}}}, true)")
            page.settle()
        page.page.keyboard.press("ArrowRight")
        page.settle()
        closer(page)
        assert page.ask("viewer.outlines.sight().area") > 0
        page.page.keyboard.press("0")
        page.settle()


def test_ten_gigapixels_open_from_afar_to_level_0(browser, engine, tmp_path):
    path = tmp_path / "giant.svs"
    write_giant(path, GiantSpec(10))
    with (
        Session(path, viewing.plan_of(), engine) as session,
        shown(browser, session, tmp_path) as page,
    ):
        page.settle()
        page.until("document.body.dataset.outlines === 'true'", 120)
        closer(page)
        assert page.ask("viewer.outlines.sight().area") > 0
        assert page.ask("viewer.pyramid.kept.size") <= 128
        page.page.keyboard.press("0")
        page.settle()
        page.until("document.body.dataset.stage === 'measuring'", 120)
        page.until("viewer.drawing.map !== null", 120)


def test_a_slide_that_is_taken_away_is_a_sentence_on_the_page(browser, engine, large, tmp_path):
    path = slides.with_bad_jpeg(tmp_path / "gone.svs", large.path, [(5, 3)])
    with viewing.session_of(path, viewing.plan_of(max_bad_tiles=1.0), engine) as session:
        path.unlink()
        with viewing.served(session, tmp_path) as served:
            opened = browser.new_context(viewport=SCREEN)
            page = Page(opened.new_page(), served.url)
            page.until("document.body.dataset.stage === 'finished'")
            page.page.keyboard.press("1")
            page.until("!document.getElementById('fault').hidden")
            assert text(page, "fault") == (
                "gone.svs: the slide is no longer where it was; put it back, or close this page"
            )
            opened.close()
