"""Fields of a slide: spread over densities and section, or where the user says; else refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import slides
from glioexport import fields
from glioexport.fields import Places
from gliorun import demo
from gliorun.errors import GlioError
from gliorun.reading.slide import Slide
from gliorun.reading.tiles import TileGrid

TILE_PX = 120


@pytest.fixture
def places(small_slide: slides.Drawn) -> Generator[Places]:
    with Slide(small_slide.path) as slide:
        yield Places(slide, TileGrid.over(slide.size_l0, (0.25, 0.25), TILE_PX, 0.25))


def tissue_of(drawn: slides.Drawn) -> NDArray[np.bool_]:
    """Return where a slide has tissue, (H, W)."""
    return np.asarray(demo.demo_density(*drawn.tissue.nuclei.shape) > 0)


def map_of(path: Path, drawn: slides.Drawn, cell_px: int) -> Path:
    """Write the true density of every cell of a drawn slide as a density.csv."""
    nuclei = drawn.tissue.nuclei
    tissue = tissue_of(drawn)
    with path.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.writer(lines)
        writer.writerow(
            ("minx", "miny", "width", "height", "density", "valid_fraction", "tissue_fraction")
        )
        for top in range(0, nuclei.shape[0], cell_px):
            for left in range(0, nuclei.shape[1], cell_px):
                cell = np.s_[top : top + cell_px, left : left + cell_px]
                height, width = nuclei[cell].shape
                share = tissue[cell].mean()
                density = f"{nuclei[cell].mean():.6f}" if share > 0.05 else ""
                writer.writerow((left, top, width, height, density, 1.0, f"{share:.4f}"))
    return path


def test_fields_go_from_dense_to_sparse_and_lie_apart(
    places: Places, small_slide: slides.Drawn, tmp_path: Path
):
    table = map_of(tmp_path / "density.csv", small_slide, TILE_PX)
    chosen = fields.spread(places, table, 6)
    assert len({field.spec for field in chosen}) == 6
    whole = sorted(tile.density for tile in fields.mapped_tiles(places, table))
    density_of = {tile.spec: tile.density for tile in fields.mapped_tiles(places, table)}
    densities = [density_of[field.spec] for field in chosen]
    assert densities == sorted(densities, reverse=True)
    edges = np.linspace(0, len(whole), 7).round().astype(int)
    for group, density in enumerate(reversed(densities)):
        assert whole[edges[group]] <= density <= whole[edges[group + 1] - 1]
    for field in chosen:
        spec = field.spec
        inside = np.s_[spec.y_l0 : spec.y_l0 + TILE_PX, spec.x_l0 : spec.x_l0 + TILE_PX]
        assert tissue_of(small_slide)[inside].mean() >= fields.LEAST_TISSUE
    columns = [field.spec.x_l0 for field in chosen]
    assert max(columns) - min(columns) > small_slide.tissue.nuclei.shape[1] / 3


def test_a_map_of_finer_cells_gives_the_same_tiles(
    places: Places, small_slide: slides.Drawn, tmp_path: Path
):
    coarse, fine = (
        {t.spec: t.density for t in fields.mapped_tiles(places, map_of(path, small_slide, px))}
        for path, px in ((tmp_path / "coarse.csv", TILE_PX), (tmp_path / "fine.csv", TILE_PX // 4))
    )
    assert len(coarse) > 50
    for spec in coarse.keys() & fine.keys():
        assert fine[spec] == pytest.approx(coarse[spec], abs=1e-5)
    # finer cells without tissue have no value, so that ragged tiles are not whole
    assert 0 < len(fine) <= len(coarse)


def test_too_many_fields_or_a_map_that_is_not_of_the_slide_are_refused(
    places: Places, small_slide: slides.Drawn, tmp_path: Path
):
    table = map_of(tmp_path / "density.csv", small_slide, TILE_PX)
    with pytest.raises(GlioError, match="whole tiles of tissue, not 500; pass a lower --fields"):
        fields.spread(places, table, 500)
    with pytest.raises(GlioError, match="larger than a tile"):
        fields.spread(places, map_of(tmp_path / "large.csv", small_slide, 2 * TILE_PX), 2)
    text = table.read_text(encoding="utf-8")
    table.write_text(text.replace("\n600,600,", "\n9600,600,"), encoding="utf-8")
    with pytest.raises(GlioError, match="pass the map of this slide"):
        fields.spread(places, table, 2)


@pytest.mark.parametrize(
    "text", ["", "a,b\n1,2\n", "minx,miny,width,height,density,valid_fraction,tissue_fraction\n"
             "0,0,120,120,nan,1,1\n"]
)  # fmt: skip
def test_what_is_no_map_is_refused(places: Places, tmp_path: Path, text: str):
    table = tmp_path / "density.csv"
    table.write_text(text, encoding="utf-8")
    with pytest.raises(GlioError, match=r"not a density.csv|0 whole tiles"):
        fields.spread(places, table, 2)


def test_a_square_has_its_field_in_the_middle(places: Places):
    (field,) = fields.in_squares(places, ["b2"])
    assert field.square == "B2"
    width_l0, height_l0 = places.squares.side_l0
    assert field.spec.x_l0 == round(1.5 * width_l0 - TILE_PX / 2)
    assert field.spec.y_l0 == round(1.5 * height_l0 - TILE_PX / 2)
    assert (field.spec.width_l0, field.spec.height_l0) == (TILE_PX, TILE_PX)


@pytest.mark.parametrize("name", ["Z1", "A99", "A0", "12", "", "A1B", "É1"])
def test_a_square_that_is_not_there_names_those_that_are(places: Places, name: str):
    with pytest.raises(GlioError, match="squares from A1 to "):
        fields.in_squares(places, [name])


def region(left: int, top: int, side: int) -> dict[str, object]:
    ring = [(left, top), (left + side, top), (left + side, top + side), (left, top + side)]
    geometry = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
    return {"type": "Feature", "geometry": geometry, "properties": {"objectType": "annotation"}}


def test_a_drawn_region_has_its_field_in_the_middle(places: Places, tmp_path: Path):
    drawn = tmp_path / "drawn.geojson"
    collection = {"type": "FeatureCollection", "features": [region(600, 400, 200)]}
    drawn.write_text(json.dumps(collection), encoding="utf-8")
    (field,) = fields.at_regions(places, drawn)
    assert (field.spec.x_l0, field.spec.y_l0) == (700 - TILE_PX // 2, 500 - TILE_PX // 2)
    collection = {"type": "FeatureCollection", "features": [region(0, 0, 20)]}
    drawn.write_text(json.dumps(collection), encoding="utf-8")
    with pytest.raises(GlioError, match="over the border of the slide"):
        fields.at_regions(places, drawn)


def test_images_are_the_slide_s_pixels(places: Places, small_slide: slides.Drawn, tmp_path: Path):
    chosen = fields.in_squares(places, ["B2"])
    fields.write_images(places, chosen, tmp_path, TILE_PX)
    spec = chosen[0].spec
    image = np.asarray(Image.open(tmp_path / f"{places.name(chosen[0])}.png"))
    expected = places.slide.read(spec, TILE_PX)[..., :3]
    np.testing.assert_array_equal(image, expected)
    assert places.name(chosen[0]) == f"small-B2-{spec.x_l0}-{spec.y_l0}"
