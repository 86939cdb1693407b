"""The map that a reader can move: drawn with Bokeh, which no other module imports.

Importing this module takes a second, so it is imported only when a report is written.
"""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING

import numpy as np
from bokeh.core.properties import value
from bokeh.document import Document
from bokeh.events import DocumentReady, Reset, Tap
from bokeh.models import (
    Button,
    Checkbox,
    CustomJS,
    CustomJSHover,
    FixedTicker,
    HoverTool,
    LinearColorMapper,
    Model,
    Range1d,
    ScaleBar,
    Slider,
)
from bokeh.plotting import figure
from bokeh.resources import Resources
from numpy.typing import NDArray
from PIL import Image

from gliorun.findings.hotspots import HotSpot
from gliorun.findings.nuclei import NucleusCounts
from gliorun.findings.squares import Squares, row_name
from gliorun.measuring.density import DensityMap
from gliorun.measuring.tile import Status
from gliorun.reading.scale import Scale
from gliorun.writers import kinds, palette
from gliorun.writers.result import Result

if TYPE_CHECKING:
    from gliorun.reading.regions import Region

JPEG_QUALITY = 80
MIN_VIEW_MM = 0.02
OPACITY = 0.7
CLEAR = "#ffffff00"
GROUND, GROUND_DARK = "#f2f4f7", "#232933"
"""Around the slide, on a light and on a dark page."""
INK = "#1d2430"
QUIET, QUIET_DARK = "#667085", "#a3adbd"
FONT = "'Segoe UI', 'Helvetica Neue', Arial, sans-serif"

BUTTON_STYLE = """
:host, .bk-btn { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0 }
.bk-btn { border: 0; border-radius: 4px; color: transparent !important;
  background: none !important; box-shadow: none !important }
.bk-btn:hover { background: #1d293912 !important }
.bk-btn:focus { outline: none }
.bk-btn:focus-visible { outline: 2px solid #2e90fa; outline-offset: -2px }
"""
"""The button of a hot spot lies clear over its line in the list."""

SHOW = """
const {x_range: x, y_range: y, inner_width: width, inner_height: height} = plot
if (width > 0 && height > 0) {
  const [left, top, right, bottom] = box ?? [x.start, y.end, x.end, y.start]
  const [across, down] = [(right - left) / width, (bottom - top) / height]
  const half = (box ? Math.max(across, down) : Math.sqrt(across * down)) / 2
  x.setv({start: (left + right) / 2 - half * width, end: (left + right) / 2 + half * width})
  y.setv({start: (top + bottom) / 2 + half * height, end: (top + bottom) / 2 - half * height})
}
"""
"""Shows the whole of `box` (left, top, right, bottom in mm), or without one as much around the
same middle as now; in either case a mm along x is as long as a mm along y."""

SWITCH = """
const {kind, density, other_kind, other_density, ...rest} = source.data
source.data = {...rest, kind: other_kind, density: other_density,
               other_kind: kind, other_density: density}
"""
OPEN = """
const place = `tile-${Math.floor(cb_obj.y / height)}-${Math.floor(cb_obj.x / width)}`
const tile = document.getElementById(place)
if (tile !== null) {
  document.querySelectorAll("figure.large").forEach(other => other.classList.remove("large"))
  tile.classList.add("large")
  tile.scrollIntoView({block: "center"})
}
"""
"""Shows the tile that was clicked on large, if it is among the evidence."""
LOOKS = """
const dark = matchMedia("(prefers-color-scheme: dark)")
const paint = (is_dark) => {
  const [ground, quiet] = is_dark ? dark_colours : light_colours
  plot.background_fill_color = plot.outline_line_color = cover.glyph.fill_color = ground
  for (const axis of [...plot.above, ...plot.left]) axis.major_label_text_color = quiet
  for (const bar of plot.below) bar.label_text_color = quiet
}
const repaint = () => paint(dark.matches)
dark.addEventListener("change", repaint)
repaint()
addEventListener("beforeprint", () => {
  const view = Bokeh.index.find_one(plot)
  paint(false)
  view.paint()
  document.getElementById("printed").replaceChildren(view.export("png").canvas)
})
addEventListener("afterprint", repaint)
"""
"""Follows the page from light to dark. For the printer, whose page is narrower than any window, it
draws the map, as it is seen, into an image that can be scaled."""

TOOLTIP = f"""
<div style="font: 13px/1.5 {FONT}; color: {INK}; padding: 3px 6px">
  <b>@density{{custom}}</b> &ensp; @kind{{custom}} &ensp; @nuclei{{custom}}<br>
  square @square{{custom}}<br>
  <span style="color: {QUIET}">x @x{{custom}}, y @y{{custom}} px</span>
</div>
"""

HOVER = {
    "@density": "return value > 1000 ? 'no value' : `${(value / 10).toFixed(1)} %`",
    "@kind": "return names[value]",
    "@nuclei": "return value < 0 ? '' : value == 1 ? '1 nucleus' : `${value} nuclei`",
    "@square": """
        const row = Math.min(Math.floor(special_vars.y / side[1]), letters.length - 1)
        const column = Math.min(Math.floor(special_vars.x / side[0]), columns - 1)
        return letters[row] + (column + 1)""",
    "@x": "return Math.round(value * special_vars.image_index.i).toLocaleString('en')",
    "@y": "return Math.round(value * special_vars.image_index.j).toLocaleString('en')",
}
"""How the tooltip words the values of the heatmap's source."""


def scripts(result: Result, colours: tuple[str, ...]) -> list[str]:
    """Return the scripts of a page, Bokeh's own first, in their order.

    The last one draws the map, the slider of its opacity, the switch of its densities and the
    button of each hot spot into the elements "map", "opacity", "other", "spot-1", "spot-2" …
    """
    plot = _map(result, colours)
    roots = {"map": plot, "opacity": _slider(plot), "other": _switch(plot, result.density)}
    for spot in result.hot_spots:
        roots[f"spot-{spot.rank}"] = _jump(plot, spot, result.scale)
    document = Document()
    for root in roots.values():
        document.add_root(root)
    whole = _show(plot, _with_rim(0, 0, plot.x_range.end, plot.y_range.start, 0.02))
    document.js_on_event(DocumentReady, whole)
    document.js_on_event(DocumentReady, _looks(plot))
    plot.js_on_event(Reset, whole)
    plot.js_on_event(Tap, _open(result))
    for side in ("inner_width", "inner_height"):
        plot.js_on_change(side, _show(plot, None))
    bokeh = Resources(mode="inline", components=["bokeh", "bokeh-widgets"], log_level="warn")
    return [*bokeh.js_raw, _embedding(document, roots)]


def _map(result: Result, colours: tuple[str, ...]) -> figure:
    """Draw slide, heatmap, hatching, squares and hot spots; axes in mm from the top left corner."""
    scale = result.scale
    width_l0, height_l0 = result.density.grid.size_l0
    width_mm, height_mm = width_l0 * scale.x_mpp / 1000, height_l0 * scale.y_mpp / 1000
    limits = {"min_interval": MIN_VIEW_MM, "max_interval": 4 * max(width_mm, height_mm)}
    plot = figure(
        sizing_mode="stretch_both",
        x_range=Range1d(0, width_mm, **limits),
        y_range=Range1d(height_mm, 0, **limits),
        x_axis_location="above",
        tools="pan,wheel_zoom,box_zoom,zoom_in,zoom_out,reset,save",
        active_scroll="wheel_zoom",
        toolbar_location="right",
        background_fill_color=GROUND,
        outline_line_color=GROUND,
        outline_line_width=2,
        border_fill_color=None,  # the page shows
        lod_threshold=None,  # nothing is left out while the map moves
        min_border=4,
        min_border_left=30,
        min_border_top=26,  # room for the names of squares, also where none is in view
    )
    plot.toolbar.logo = None
    _draw_overview(plot, result.overview, width_mm, height_mm)
    squares = Squares(result.density.grid)
    _draw_heatmap(plot, result, squares, colours)
    _hatch(plot, result.density, scale)
    _cover_beyond(plot, width_mm, height_mm)
    _name_squares(plot, squares, width_mm, height_mm, scale)
    _draw_regions(plot, result.drawn_regions, scale)
    _mark_evidence(plot, result)
    _draw_hot_spots(plot, result.hot_spots, scale)
    bar = ScaleBar(
        unit="mm", location="bottom_left", label_text_font=FONT, label_location="right", margin=0,
        padding=8, border_line_color=None, background_fill_color=None, bar_line_color=QUIET,
    )  # fmt: skip
    plot.add_layout(bar, "below")
    return plot


def _draw_overview(
    plot: figure, overview: NDArray[np.uint8], width_mm: float, height_mm: float
) -> None:
    """Draw the slide, and over it, as opaque as the heatmap, a pale grey copy.

    Under the heatmap the slide thus loses its colour, and a class keeps its own.
    """
    pixels = Image.fromarray(overview)
    slide = Image.alpha_composite(Image.new("RGBA", pixels.size, "white"), pixels).convert("RGB")
    pale = slide.convert("L").point([255 - (255 - level) // 2 for level in range(256)])
    for name, picture, alpha in (("slide", slide, 1), ("pale slide", pale, OPACITY)):
        plot.image_url(
            url=[_jpeg(picture)], x=0, y=0, w=width_mm, h=height_mm, anchor="top_left",
            global_alpha=alpha, name=name,
        )  # fmt: skip


def _draw_heatmap(plot: figure, result: Result, squares: Squares, colours: tuple[str, ...]) -> None:
    """Draw the cells as one image, clear where they have no value, with a tooltip."""
    density, scale, counts = result.density, result.scale, result.counts
    shown = kinds.coarse_enough(density)
    cells, names = kinds.of_cells(shown.cell_status, shown.density, shown.sparse)
    other = shown.density_of_tile if shown.per_tissue else _of_tissue(shown)
    other_kinds, _ = kinds.of_cells(shown.cell_status, other, np.zeros_like(shown.sparse))
    cell_l0 = shown.cell_l0
    cell_mm = cell_l0[0] * scale.x_mpp / 1000, cell_l0[1] * scale.y_mpp / 1000
    rows, columns = cells.shape
    heatmap = plot.image(
        image="kind",
        x=0,
        y=0,
        dw=columns * cell_mm[0],
        dh=rows * cell_mm[1],
        source={
            "kind": [cells],
            "density": [kinds.permille(shown.density)],
            "other_kind": [other_kinds],
            "other_density": [kinds.permille(other)],
            "nuclei": [_nuclei(shown, counts)],
            "x": [cell_l0[0]],
            "y": [cell_l0[1]],
            "square": [0],
        },
        color_mapper=LinearColorMapper(
            palette=[
                *colours,
                *(CLEAR for _ in Status),
                *(f"{colour}{palette.PALER:02x}" for colour in colours),
            ],
            low=0,
            high=len(names),
        ),
        global_alpha=OPACITY,
        name="heatmap",
    )
    names_of = {
        "names": names,
        "letters": [row_name(row) for row in range(squares.rows)],
        "columns": squares.columns,
        "side": squares.side_mm(scale),
    }
    formatters = {field: CustomJSHover(args=names_of, code=code) for field, code in HOVER.items()}
    plot.add_tools(
        HoverTool(renderers=[heatmap], tooltips=TOOLTIP, formatters=formatters, visible=False)
    )


def _hatch(plot: figure, density: DensityMap, scale: Scale) -> None:
    """Hatch the cells of tiles that hold tissue and have no value."""
    shown = kinds.coarse_enough(density)
    plot.patch(
        *_outline(kinds.lacks_value(shown.cell_status), shown.cell_l0, scale),
        fill_color=palette.NO_VALUE,
        fill_alpha=OPACITY,
        line_color=None,
        hatch_pattern="right_diagonal_line",
        hatch_color="#475467",
        hatch_alpha=OPACITY,
        hatch_scale=7,
        hatch_weight=1,
        name="no value",
    )


def _cover_beyond(plot: figure, width_mm: float, height_mm: float) -> None:
    """Cover what the last tiles stick out of the slide.

    The rim of the frame takes only half of what is drawn across it, hence several times.
    """
    far_mm = 5 * max(width_mm, height_mm)
    plot.quad(
        left=4 * [width_mm, 0],
        right=far_mm,
        top=4 * [0, height_mm],
        bottom=far_mm,
        fill_color=GROUND,
        line_color=None,
        name="beyond",
    )


def _of_tissue(density: DensityMap) -> NDArray[np.float64]:
    """Return the density of the tissue of a map whose densities are of the tiles."""
    of_tissue = copy(density)
    of_tissue.per_tissue = True
    return of_tissue.density


def _nuclei(shown: DensityMap, counts: NucleusCounts | None) -> NDArray[np.int32]:
    """Return the nuclei of each cell; -1 where there is no value, or all if none were counted."""
    if counts is None:
        return np.full(shown.valid_px.shape, -1, np.int32)
    (rows, columns), cells = shown.valid_px.shape, counts.per_cell
    step = len(cells) // rows
    summed = cells.reshape(rows, step, columns, step).sum(axis=(1, 3))
    return np.where(np.isnan(shown.density), -1, summed).astype(np.int32)


def _outline(
    chosen: NDArray[np.bool_], cell_l0: tuple[float, float], scale: Scale
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return x and y in mm of one closed line around all chosen cells.

    It goes around every run of cells in a row, from the slide's left edge and back to it along
    the run's lower side. A browser fills one line at once, but thousands of closed ones slowly.
    """
    steps = np.diff(np.pad(chosen, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    top, left = np.nonzero(steps == 1)
    right, bottom, edge = np.nonzero(steps == -1)[1], top + 1, np.zeros_like(top)
    x = np.stack([edge, left, left, right, right, edge], axis=1) * cell_l0[0] * scale.x_mpp
    y = np.stack([bottom, bottom, top, top, bottom, bottom], axis=1) * cell_l0[1] * scale.y_mpp
    return (x.ravel() / 1000).astype(np.float32), (y.ravel() / 1000).astype(np.float32)


def _name_squares(
    plot: figure, squares: Squares, width: float, height: float, scale: Scale
) -> None:
    """Rule the named squares and write their letters and numbers along the axes."""
    side = squares.side_mm(scale)
    for axis, count, side_mm, length, name in (
        (plot.xaxis, squares.columns, side[0], width, lambda column: str(column + 1)),
        (plot.yaxis, squares.rows, side[1], height, row_name),
    ):
        middles = [(i * side_mm + min((i + 1) * side_mm, length)) / 2 for i in range(count)]
        axis.ticker = FixedTicker(ticks=middles)
        axis.major_label_overrides = {at: name(i) for i, at in enumerate(middles)}
        axis.major_label_text_font = FONT
        axis.major_label_text_font_size = "12px"
        axis.major_label_text_color = QUIET
        axis.major_tick_line_color = None
        axis.axis_line_color = None
    plot.grid.visible = False  # it would not end with the slide
    across = [column * side[0] for column in range(1, squares.columns)]
    down = [row * side[1] for row in range(1, squares.rows)]
    plot.segment(
        x0=across + [0] * len(down), x1=across + [width] * len(down),
        y0=[0] * len(across) + down, y1=[height] * len(across) + down,
        line_color=INK, line_alpha=0.3,
    )  # fmt: skip


def _draw_regions(plot: figure, regions: Sequence[Region], scale: Scale) -> None:
    """Outline and name the regions."""
    if not regions:
        return
    mm = np.array([scale.x_mpp, scale.y_mpp]) / 1000
    rings = [ring * mm for region in regions for rings in region.rings_l0() for ring in rings]
    xs, ys = ([ring[:, axis].tolist() for ring in rings] for axis in (0, 1))
    plot.multi_line(xs=xs, ys=ys, line_color="white", line_width=4)
    plot.multi_line(xs=xs, ys=ys, line_color=palette.REGION, line_width=2)
    x, y = (np.array([region.label_l0() for region in regions]) * mm).T
    plot.text(
        x=x,
        y=y,
        text=[region.name for region in regions],
        text_font=value(FONT),
        text_font_size="12px",
        text_color=palette.REGION,
        text_align="center",
        text_baseline="middle",
        background_fill_color="white",
        background_fill_alpha=0.85,
        padding=3,
    )


def _draw_hot_spots(plot: figure, hot_spots: tuple[HotSpot, ...], scale: Scale) -> None:
    """Outline and number the hot spots, dark on light, so that they show on any ground."""
    boxes = np.array([_box_mm(spot, scale) for spot in hot_spots]).reshape(-1, 4)
    left, top, right, bottom = boxes.T
    edges = {"left": left, "top": top, "right": right, "bottom": bottom}
    plot.quad(**edges, fill_color=None, line_color="white", line_width=4.5)
    plot.quad(**edges, fill_color=None, line_color=INK, line_width=2)
    plot.text(
        x=left,
        y=top,
        text=[str(spot.rank) for spot in hot_spots],
        text_font=value(FONT),
        text_font_size="12px",
        text_font_style="bold",
        text_color="white",
        text_baseline="top",
        background_fill_color=INK,
        padding=4,
    )


def _box_mm(spot: HotSpot, scale: Scale) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of a hot spot in mm."""
    x_mm, y_mm = scale.x_mpp / 1000, scale.y_mpp / 1000
    return (
        spot.minx * x_mm,
        spot.miny * y_mm,
        (spot.minx + spot.width) * x_mm,
        (spot.miny + spot.height) * y_mm,
    )


def _jpeg(picture: Image.Image) -> str:
    """Return a picture as the data URI of a JPEG."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _slider(plot: figure) -> Model:
    slider = Slider(
        start=0, end=1, step=0.05, value=OPACITY, title="Heatmap opacity", format="0 %",
        sizing_mode="stretch_width", bar_color="#98a2b3",
        stylesheets=[f":host {{ font: 13px {FONT}; color: var(--ink) }}"],
    )  # fmt: skip
    for name, alpha in (
        ("pale slide", "global_alpha"),
        ("heatmap", "global_alpha"),
        ("no value", "fill_alpha"),
        ("no value", "hatch_alpha"),
    ):
        slider.js_link("value", plot.select_one({"name": name}).glyph, alpha)
    return slider


def _switch(plot: figure, density: DensityMap) -> Model:
    """Return the switch between densities of the tissue and of whole tiles."""
    other = "of whole tiles, as in the paper" if density.per_tissue else "of the tissue alone"
    switch = Checkbox(
        label=f"Density {other}", stylesheets=[f":host {{ font: 13px {FONT}; color: var(--ink) }}"]
    )
    source = plot.select_one({"name": "heatmap"}).data_source
    switch.js_on_change("active", CustomJS(args={"source": source}, code=SWITCH))
    return switch


def _open(result: Result) -> CustomJS:
    """Return what a click on the map does: it opens the tile below it, where one was kept."""
    width, height = (
        side * mpp / 1000
        for side, mpp in zip(
            result.density.grid.tile_l0, (result.scale.x_mpp, result.scale.y_mpp), strict=True
        )
    )
    return CustomJS(args={"width": width, "height": height}, code=OPEN)


def _mark_evidence(plot: figure, result: Result) -> None:
    """Mark the tiles that are shown below the map by their lower left corner on the slide."""
    width, height = result.density.grid.tile_l0
    x_mm, y_mm = width * result.scale.x_mpp / 1000, height * result.scale.y_mpp / 1000
    specs = [exhibit.choice.spec for exhibit in result.evidence]
    left = np.array([spec.column * x_mm for spec in specs])
    slide_mm = result.density.grid.size_l0[1] * result.scale.y_mpp / 1000
    bottom = np.minimum([(spec.row + 1) * y_mm for spec in specs], slide_mm)
    part = 0.22
    plot.patches(
        xs=[[x, x + part * x_mm, x] for x in left],
        ys=[[y, y, y - part * y_mm] for y in bottom],
        fill_color=INK,
        line_color="white",
        line_width=0.7,
    )


def _jump(plot: figure, spot: HotSpot, scale: Scale) -> Model:
    """Return the button that fills the view with a hot spot and half a field around it."""
    box = _with_rim(*_box_mm(spot, scale), share=0.5)
    button = Button(
        label=f"Show hot spot {spot.rank}", sizing_mode="stretch_both", stylesheets=[BUTTON_STYLE]
    )
    button.js_on_click(_show(plot, box))
    return button


def _show(plot: figure, box: list[float] | None) -> CustomJS:
    return CustomJS(args={"plot": plot, "box": box}, code=SHOW)


def _with_rim(left: float, top: float, right: float, bottom: float, share: float) -> list[float]:
    """Return a box widened on each side by a share of its longer side."""
    rim = share * max(right - left, bottom - top)
    return [left - rim, top - rim, right + rim, bottom + rim]


def _looks(plot: figure) -> CustomJS:
    return CustomJS(
        args={
            "plot": plot,
            "cover": plot.select_one({"name": "beyond"}),
            "light_colours": [GROUND, QUIET],
            "dark_colours": [GROUND_DARK, QUIET_DARK],
        },
        code=LOOKS,
    )


def _embedding(document: Document, roots: dict[str, Model]) -> str:
    """Return the script that draws each root into the element of its name.

    Models are renumbered from 1, so that the same result gives the same bytes.
    """
    text = json.dumps(document.to_json(deferred=False), separators=(",", ":"))
    numbers: dict[str, str] = {}
    text = re.sub(
        r'"id":"(p\d+)"',
        lambda match: f'"id":"{numbers.setdefault(match[1], str(len(numbers) + 1))}"',
        text,
    )
    places = {numbers[root.id]: name for name, root in roots.items()}
    item = json.dumps({"docid": "report", "roots": places, "root_ids": list(places)})
    script = f'Bokeh.embed.embed_items({{"report": {text}}}, [{item}])'
    return script.replace("<", "\\u003c")  # so that no text in it can end the script
