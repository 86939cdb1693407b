"""The run record in words: what a reader of the report asks about how it was made."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from gliorun.model import shipped
from gliorun.model.card import ModelCard

SHORT_HASH = 12
Line = tuple[str, str]


def account(run: dict[str, Any], card: ModelCard) -> list[Line]:
    """Return a run record as a few sentences, as (what about, words), for what it holds."""
    lines = [
        ("Measured", " ".join(_moments(run))),
        ("Slide", " ".join(_slide(run.get("slide", {}), run.get("scale", {})))),
        ("Model", " ".join(_model(card))),
        ("Map", " ".join(_map(run))),
        ("Left out", " ".join(_limits(run.get("settings", {})))),
        ("Computer", " ".join(_computer(run))),
        ("Software", ", ".join(f"{name} {of}" for name, of in run.get("versions", {}).items())),
    ]
    return [(about, words) for about, words in lines if words]


def _moments(run: dict[str, Any]) -> Iterator[str]:
    if "started_at_local" in run:
        local = datetime.fromisoformat(run["started_at_local"])
        utc = datetime.fromisoformat(run["started_at"].replace("Z", "+00:00"))
        yield f"{_day(local)}, {local:%H:%M} by the computer's clock (UTC{local:%z}),"
        yield f"{'' if local.date() == utc.date() else _day(utc) + ', '}{utc:%H:%M} UTC."


def _day(moment: datetime) -> str:
    return f"{moment.day} {moment:%B %Y}"


def _slide(slide: dict[str, Any], scale: dict[str, Any]) -> Iterator[str]:
    if {"width_px", "height_px"} <= set(slide):
        yield f"{slide['width_px']:,} × {slide['height_px']:,} px,"
    if {"x_mpp", "y_mpp", "source"} <= set(scale):
        sides = dict.fromkeys(f"{scale[side]:.4g}" for side in ("x_mpp", "y_mpp"))
        source = "the slide itself" if scale["source"] == "slide" else scale["source"]
        yield f"{' × '.join(sides)} µm/px from {source}."
    scanner = slide.get("vendor")
    power = slide.get("objective_power")
    if scanner:
        yield f"Scanner's format {scanner}{f', objective {power:g}x' if power else ''}."
    if slide.get("fingerprint"):
        yield f"Fingerprint {slide['fingerprint']}."


def _model(card: ModelCard) -> Iterator[str]:
    name = shipped.name_of(card)
    titles = [name if name == card.name else f"{name} ({card.name})", card.precision]
    if card.weights_sha256:
        titles.append(f"weights {card.weights_sha256[:SHORT_HASH]}")
    yield ", ".join(filter(None, titles)) + "."
    yield (
        f"Its tiles of {card.tile_px} px at {card.mpp:g} µm/px are "
        f"{card.tile_px * card.mpp:.4g} µm wide."
    )
    agreement = card.parity.get(f"OpenVINO {card.precision}", {})
    if isinstance(agreement, dict) and {"dice", "density_error_points", "images"} <= set(agreement):
        yield (
            f"Beside the network it was converted from: Dice {agreement['dice']:.3f}, density "
            f"{agreement['density_error_points']:.2f} points off on {agreement['images']} tiles."
        )


def _map(run: dict[str, Any]) -> Iterator[str]:
    calibration = run.get("settings", {}).get("calibration")
    if calibration:
        by = f" by {calibration['by']}" if calibration["by"] else ""
        yield (
            f"Outlines are calibrated to {calibration['name']}, level "
            f"{calibration['outlines']['nucleus']}, on {calibration['date']}{by}."
        )
    if "side_px" in run.get("cells", {}):
        yield f"Cells of {run['cells']['side_px']} px of the model."
    settings = run.get("settings", {})
    if "tissue_mask" in settings:
        mask = settings["tissue_mask"]
        yield f"Tissue as marked in {mask}." if mask else "Tissue found by its stain."
    fields = run.get("fields", {})
    if {"count", "area_mm2"} <= set(fields):
        yield f"Hot spots: {fields['count']} fields of {fields['area_mm2']:g} mm² asked for."
    if "palette" in run:
        yield f"Palette {run['palette']}."
    if run.get("resumed_tiles"):
        yield f"{run['resumed_tiles']:,} tiles are of an earlier run that was stopped."


def _limits(settings: dict[str, Any]) -> Iterator[str]:
    if "quality" not in settings:
        return
    limits = settings["quality"]
    if limits is None:
        yield "Only tiles that could not be read: quality was not judged."
        return
    most = (
        f"more than {100 * limits[f'max_{reason}']:g} % {noun}"
        for reason, noun in (
            ("pen", "ink"), ("red", "bright red"), ("grey", "grey"), ("fold", "folded tissue"),
        )
        if f"max_{reason}" in limits
    )  # fmt: skip
    yield f"Tiles with {', '.join(most)},"
    yield f"less than {100 * limits['min_tissue']:g} % of anything stained,"
    yield f"or edges wider than {limits['max_edge_px']:g} px."


def _computer(run: dict[str, Any]) -> Iterator[str]:
    compute, machine, seconds = (run.get(k, {}) for k in ("compute", "machine", "seconds"))
    stages = {stage: s for stage, s in seconds.items() if "waiting" not in stage}
    if stages:
        parts = ", ".join(f"{stage} {s:.1f} s" for stage, s in stages.items())
        yield f"{sum(stages.values()):.1f} s ({parts})"
    if "device" in compute:
        yield f"on {compute['device']}, {compute.get('streams', '1')} streams at once,"
        yield f"precision {compute.get('precision', 'not told')}."
    if {"system", "processors"} <= set(machine):
        yield f"{machine['processors']} processors, {machine['system']}."
