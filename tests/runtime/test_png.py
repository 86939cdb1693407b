"""The figure: right, sharp, complete, and without overlaps on slides of any shape."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.text import Text
from PIL import Image

from figures import CARD, GLASS, PINK, SHAPES, assert_readable, made, texts_of
from gliorun.errors import GlioError
from gliorun.findings.hotspots import HotSpot
from gliorun.measuring.density import CLASS_NAMES, classify
from gliorun.measuring.tile import Status
from gliorun.writers import palette
from gliorun.writers.layout import MAX_DOTS
from gliorun.writers.page import Page
from gliorun.writers.palette import Appearance
from gliorun.writers.panel import SEEN_THROUGH, Panel
from gliorun.writers.png import draw, layout_of, write_heatmap
from gliorun.writers.result import Result


def written(path: Path, result: Result, appearance: Appearance) -> np.ndarray:
    write_heatmap(path, result, appearance)
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


APPEARANCES = {"beside": Appearance(), "overlay": Appearance(palette.CONTINUOUS, overlay=True)}


@pytest.mark.parametrize("appearance", APPEARANCES.values(), ids=APPEARANCES.keys())
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_nothing_overlaps_or_leaves_a_page_of_a_sane_size(shape, appearance):
    result = made(**shape)
    page, layout = draw(result, appearance), layout_of(result, appearance)
    assert_readable(page, layout)
    assert len(texts_of(page)) > 20
    assert 1000 < page.width * 200 / page.dpi < 2600
    assert 700 < page.height * 200 / page.dpi < 2700


@pytest.mark.parametrize("cell_px", [120, 240, 480])
def test_every_cell_is_a_square_of_whole_dots_in_the_colour_of_its_class(tmp_path, cell_px):
    result = made((5_040, 3_600), cell_px=cell_px)
    result = replace(result, card=CARD, hot_spots=(), run={})
    pixels = written(tmp_path / "map.png", result, Appearance())
    layout = layout_of(result, Appearance())
    left, top = layout.corners[1]
    wide, high = layout.frame.size
    side = layout.frame.cell_dots
    classes = classify(result.density.density)
    wanted = palette.rgb(palette.class_colours("cold-hot"))[
        classes.repeat(side, axis=0).repeat(side, axis=1)[:high, :wide]
    ]
    panel = pixels[top : top + high, left : left + wide]
    differs = (panel != wanted).any(axis=-1)
    # all that differs are the lines of the grid and the rim of the panel
    inner = differs[3:-3, 3:-3]
    on_line = inner.all(axis=0)[None] | inner.all(axis=1)[:, None]
    assert (inner <= on_line).all()
    assert on_line.mean() < 0.08


def test_a_map_of_800_by_600_cells_is_sharp(tmp_path):
    result = made((96_000, 72_000), cell_px=120, fields=(1.0, 1))
    pixels = written(tmp_path / "map.png", result, Appearance())
    layout = layout_of(result, Appearance())
    side = layout.frame.cell_dots
    assert side == 2
    left, top = layout.corners[1]
    panel = pixels[top : top + 1200, left : left + 1600]
    colours = palette.rgb(palette.class_colours("cold-hot"))
    is_class = (panel[:, :, None] == colours).all(axis=-1).any(axis=-1)
    assert is_class.mean() > 0.9  # the rest: 20 lines, the rim, one hot spot and its number
    cells = panel.reshape(600, 2, 800, 2, 3)
    same = (cells == cells[:, :1, :, :1]).all(axis=(1, 3, 4))
    assert same.mean() > 0.9


def test_cells_finer_than_dots_are_summed_and_the_figure_says_so():
    result = made((100_000, 20_000), cell_px=20, fields=(1.0, 1))
    assert result.density.valid_px.shape[1] > 2 * MAX_DOTS
    page = draw(result, Appearance())
    texts = texts_of(page)
    assert "15 µm" in texts  # 60 px of 0.25 µm
    assert page.width < 5000


def test_the_legend_gives_the_share_of_every_class():
    result = made((9_600, 7_200), unreadable=3)
    texts = texts_of(draw(result, Appearance()))
    for name, share in zip(CLASS_NAMES, result.density.class_shares(), strict=True):
        assert f"{100 * share:.1f} %" in texts[texts.index(name) :]
        assert texts[texts.index(name) + 1] == f"{100 * share:.1f} %"
    assert f"{100 * result.density.mean_density():.1f} %" in texts
    assert f"{result.density.measured_tiles()}" in texts
    assert CARD.intended_use in texts
    assert any("Scale 0.25 µm/px (from slide)" in text for text in texts)


def test_tiles_without_a_value_are_hatched_and_counted(tmp_path):
    result = made((4_800, 3_360), unreadable=7)
    assert texts_of(draw(result, Appearance())).count("7 tiles") == 1
    assert "no value: unreadable" in texts_of(draw(result, Appearance()))
    pixels = written(tmp_path / "map.png", result, Appearance())
    layout = layout_of(result, Appearance())
    left, top = layout.corners[1]
    side = layout.frame.tile_dots
    colours = palette.rgb((palette.NO_VALUE, palette.HATCHING))
    for row, column in np.argwhere(result.density.status == Status.UNREADABLE):
        y, x = top + row * side, left + column * side
        tile = pixels[y : y + side, x : x + side].reshape(-1, 3)
        shares = [(tile == colour).all(axis=1).mean() for colour in colours]
        assert shares[0] > 0.4
        assert 0.1 < shares[1] < 0.5


def test_glass_in_a_tile_without_a_value_is_not_hatched(tmp_path):
    result = made((4_800, 3_360), cell_px=240, unreadable=1)
    density = result.density
    ((row, column),) = np.argwhere(density.status == Status.UNREADABLE)
    density.tissue[2 * row, 2 * column] = False
    result = replace(result, hot_spots=())
    pixels = written(tmp_path / "map.png", result, Appearance())
    layout = layout_of(result, Appearance())
    (left, top), side = layout.corners[1], layout.frame.cell_dots
    line = palette.rgb((palette.HATCHING,))[0]
    hatched = [
        (pixels[y + 3 : y + side - 3, x + 3 : x + side - 3] == line).all(axis=-1).any()
        for y in (top + 2 * row * side, top + (2 * row + 1) * side)
        for x in (left + 2 * column * side, left + (2 * column + 1) * side)
    ]
    assert hatched == [False, True, True, True]


def test_a_slide_without_bad_tiles_has_no_hatching_in_its_legend():
    texts = texts_of(draw(made((4_800, 3_360)), Appearance()))
    assert not any("no value" in text for text in texts)


def test_hot_spots_are_outlined_in_both_panels_numbered_and_listed(tmp_path):
    result = made((9_600, 7_200), fields=(0.25, 3))
    pixels = written(tmp_path / "map.png", result, Appearance())
    layout = layout_of(result, Appearance())
    for left, top in layout.corners:
        for spot in result.hot_spots:
            x, y = layout.frame.dots_from_l0(spot.minx, spot.miny)
            right, bottom = layout.frame.dots_from_l0(
                spot.minx + spot.width, spot.miny + spot.height
            )
            middle = pixels[round(top + (y + bottom) / 2), :, :]
            for edge in (x, right):
                assert middle[round(left + edge) - 1 : round(left + edge) + 2].min() < 60
    page = draw(result, Appearance())
    texts = texts_of(page)
    for spot in result.hot_spots:
        assert texts.count(str(spot.rank)) >= 5  # two panels, the list, two grids
        assert f"{100 * spot.density:.1f} %" in texts
        assert spot.square in texts
    assert "0.25 mm²" in texts


def test_the_number_of_a_small_field_stands_nearer_to_it_than_to_its_neighbours():
    result = made((48_000, 33_600))
    places = [(12_000, 12_000), (13_900, 12_000), (15_800, 12_000), (13_900, 14_000)]
    fields = [
        HotSpot(rank, x, y, 1_440, 1_440, "A1", 0.3, 0.27, 0.34, 1.0, 0.13)
        for rank, (x, y) in enumerate(places, 1)
    ]
    layout = layout_of(result, Appearance())
    page = Page(layout.width, layout.height, layout.dpi)
    Panel(page, layout.frame, *layout.corners[0]).mark(tuple(fields))
    ruler = RendererAgg(page.width, page.height, page.dpi)
    left, top = layout.corners[0]
    side = 1_440 / 480 * layout.frame.cell_dots
    for spot in fields:
        (text,) = (t for t in page.figure.findobj(Text) if t.get_text() == str(spot.rank))
        seen = text.get_window_extent(ruler)
        x, y = (seen.x0 + seen.x1) / 2, page.height - (seen.y0 + seen.y1) / 2
        gaps = {}
        for field in fields:
            corner = layout.frame.dots_from_l0(field.minx, field.miny)
            across = max(left + corner[0] - x, x - left - corner[0] - side, 0)
            down = max(top + corner[1] - y, y - top - corner[1] - side, 0)
            gaps[field.rank] = np.hypot(across, down)
        assert min(gaps, key=gaps.__getitem__) == spot.rank
        assert sorted(gaps.values())[1] > gaps[spot.rank] + 5


def test_more_hot_spots_than_there_is_room_for_are_counted():
    result = made((60_000, 42_000), fields=(1.0, 30))
    assert len(result.hot_spots) == 30
    assert "and 25 more" in texts_of(draw(result, Appearance()))


def test_no_hot_spot_and_no_mean_are_said():
    texts = texts_of(draw(made((4_800, 2_400), unreadable=50), Appearance()))
    assert "none found" in texts
    assert "–" in texts


def test_the_scale_bar_is_as_long_as_it_says(tmp_path):
    result = made((9_600, 7_200), fields=(0.25, 1))
    pixels = written(tmp_path / "map.png", result, Appearance())
    layout = layout_of(result, Appearance())
    left, top = layout.corners[1]
    below = top + layout.frame.size[1] + round(9.5 * layout.dpi / 72)
    dark = pixels[below, left - 5 :, 0] < 60
    length = int(np.argmin(dark[6:])) + 1
    dots_a_mm = layout.frame.cell_dots / 0.12
    assert "500 µm" in texts_of(draw(result, Appearance()))
    assert length == pytest.approx(0.5 * dots_a_mm, abs=2)


def test_the_grid_has_the_names_of_the_squares_once_a_panel():
    result = made((9_600, 7_200), fields=(99.0, 1))  # 20 × 15 tiles: squares of two
    texts = texts_of(draw(replace(result, slide_name="s", hot_spots=()), Appearance()))
    for name in ("9", "10", "A", "B", "H"):
        assert texts.count(name) == 2
    assert "11" not in texts
    assert "I" not in texts


@pytest.mark.parametrize("name", palette.NAMES)
def test_each_palette_paints_the_cells_in_its_colours(tmp_path, name):
    result = made((4_800, 3_360))
    pixels = written(tmp_path / "map.png", result, Appearance(palette=name)).reshape(-1, 3)
    densities = result.density.density.ravel()
    wanted = palette.cell_colours(name, densities[None])[0, :, :3]
    for colour in np.unique(wanted, axis=0):
        assert (pixels == colour).all(axis=1).sum() > 5_000


def test_the_continuous_palette_has_a_colour_bar_and_still_the_shares():
    texts = texts_of(draw(made((4_800, 3_360)), Appearance(palette="continuous")))
    assert {"0 %", "10 %", "20 %", "30 %", "≥ 40 %", "20–100 %"} <= set(texts)


def test_an_unknown_palette_is_refused_with_the_known():
    with pytest.raises(GlioError, match="'jet': unknown; known: cold-hot, paper-like, continuous"):
        Appearance(palette="jet")


def test_an_overlay_shows_the_slide_through_the_map(tmp_path):
    appearance = Appearance(overlay=True)
    result = made((4_800, 3_360), tissue=0.5)
    result = replace(result, card=CARD, hot_spots=(), run={})
    pixels = written(tmp_path / "map.png", result, appearance)
    layout = layout_of(result, appearance)
    (left, top), side = layout.corners[0], layout.frame.cell_dots
    colours = palette.rgb(palette.class_colours("cold-hot"))
    classes = classify(result.density.density)
    grey = np.uint8(255 - (255 - np.mean(PINK[:3])) * SEEN_THROUGH)  # whatever the stain
    through = palette.over(colours, np.full(3, grey), appearance.opacity)
    seen = pixels[top + side // 2, left + side // 2]
    assert (seen == through[classes[0, 0]]).all()
    right = left + layout.frame.size[0]
    assert (pixels[top + side // 2, right - side // 2] == GLASS[:3]).all()
    # the legend's samples are what is seen, not the bare colour
    flat = pixels[layout.corners[0][1] + layout.frame.size[1] :].reshape(-1, 3)
    assert all((flat == colour).all(axis=1).sum() > 500 for colour in through)


@pytest.mark.parametrize("appearance", APPEARANCES.values(), ids=APPEARANCES.keys())
def test_the_same_result_gives_the_same_bytes(tmp_path, appearance):
    for name in ("a.png", "b.png"):
        write_heatmap(tmp_path / name, made((2_400, 1_800), unreadable=5), appearance)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_users_matplotlibrc_changes_nothing(tmp_path):
    result = made((2_400, 1_800), unreadable=5)
    write_heatmap(tmp_path / "a.png", result, Appearance())
    own = {
        "font.size": 30, "savefig.bbox": "tight", "savefig.dpi": 33, "lines.linewidth": 9,
        "text.antialiased": False, "patch.force_edgecolor": True, "figure.facecolor": "red",
    }  # fmt: skip
    with matplotlib.rc_context(own):
        write_heatmap(tmp_path / "b.png", result, Appearance())
        assert matplotlib.rcParams["font.size"] == 30
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("name", ["cost $1$ and $x_2$.svs", "胶质瘤 №7.svs", "new\nline\t.svs", ""])
def test_any_name_of_a_slide_can_be_drawn(tmp_path, recwarn, name):
    write_heatmap(tmp_path / "map.png", made((960, 960), name=name), Appearance())
    assert not recwarn


def test_a_long_name_keeps_its_start_and_its_end():
    texts = texts_of(
        draw(made((4_800, 9_600), name="TCGA-06 " + "x" * 300 + " level 3.svs"), Appearance())
    )
    assert texts[0].startswith("TCGA-06")
    assert "…" in texts[0]
    assert texts[0].endswith("level 3.svs")


def test_a_hot_spot_is_drawn_where_it_lies(tmp_path):
    result = made((960, 960))
    spot = HotSpot(1, 120, 240, 480, 240, "A1", 0.2, 0.18, 0.23, 1.0, 0.007)
    result = replace(result, slide_name="s", card=CARD, hot_spots=(spot,), run={})
    layout = layout_of(result, Appearance())
    pixels = written(tmp_path / "map.png", result, Appearance())
    left, top = layout.corners[1]
    side = layout.frame.cell_dots
    assert pixels[top + round(0.5 * side), left + round(0.75 * side)].max() < 60
    assert pixels[top + round(1.0 * side), left + round(0.75 * side)].max() < 60
