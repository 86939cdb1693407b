"""A small network and small labelled tiles, made on the spot."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gliorun import demo
from gliorun.findings.agreement import Agreement
from gliorun.model.card import ModelCard
from gliorun.model.stainstatistic import StainStatistic
from gliorun.reading.windows import windows

SIDE = 64
TARGET = StainStatistic((0.32, 0.69, 0.35))


@dataclass(frozen=True, slots=True, eq=False)
class Converted:
    """A Keras file, its card, the folder it was converted into and what was said meanwhile."""

    source: Path
    card: ModelCard
    out: Path
    figures: dict[str, Agreement]
    said: list[str]


def drawn_windows(seed: int = 7, side: int = SIDE) -> list[NDArray[np.uint8]]:
    """Return six windows of drawn tissue."""
    tissue = demo.draw_tissue(demo.demo_density(2 * side, 3 * side), seed)
    return [np.ascontiguousarray(window) for window in windows(tissue.pixels, side)]


def undecided_unet(seed: int = 5) -> keras.Model:
    """Return a network of random weights that calls about a quarter of drawn tissue nucleus."""
    from glioexport.network import UnetShape, build_unet

    model = build_unet(UnetShape(SIDE, SIDE, 4, 2), seed=seed)
    logits = model.get_layer("logits")
    scores = keras.Model(model.inputs, logits.output)
    output = scores.predict_on_batch(np.stack(drawn_windows()).astype(np.float32))
    kernel, bias = logits.get_weights()
    bias[1] -= np.quantile(output[..., 1] - output[..., 0], 0.75)
    logits.set_weights([kernel, bias])
    return model


def convert_small(folder: Path) -> Converted:
    """Save an undecided network with its card and convert it on synthetic tissue."""
    from glioexport.convert import convert
    from glioexport.parity import Tolerance

    source = folder / "small.keras"
    undecided_unet().save(source)
    card = ModelCard(
        name="small", tile_px=SIDE, mpp=0.4, colour_target=TARGET, training={"data": ["µ-set"]}
    )
    source.with_suffix(".json").write_text(card.to_json(), encoding="utf-8")
    out, said = folder / "deep" / "out", []
    loose = Tolerance(density_points=100, class_agreement=0)
    figures = convert(source, out, tiles=None, mpp=None, tolerance=loose, say=said.append)
    return Converted(source, card, out, figures, said)


def write_tiles(folder: Path, size: tuple[int, int] = (96, 160)) -> Path:
    """Draw four tiles of split train and two of split val, with an index.csv; return `folder`."""
    rows = []
    for number in range(6):
        density = np.full(size, 0.25, dtype=np.float32)
        tissue = demo.draw_tissue(density, seed=number)
        for kind, array in (("images", tissue.pixels), ("labels", tissue.nuclei * 255)):
            (folder / kind).mkdir(exist_ok=True)
            Image.fromarray(array).save(folder / kind / f"{number}.png")
        rows.append(
            {
                "set": "drawn",
                "id": f"{number}",
                "patient": f"p{number // 2}",
                "split": "train" if number < 4 else "val",
                "licence": "CC0",
                "image": f"images/{number}.png",
                "label": f"labels/{number}.png",
            }
        )
    write_index(folder, rows)
    return folder


def write_index(folder: Path, rows: list[dict[str, str]]) -> None:
    """Write `rows` as index.csv."""
    with (folder / "index.csv").open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def read_rows(folder: Path) -> list[dict[str, str]]:
    """Return the rows of index.csv."""
    with (folder / "index.csv").open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))
