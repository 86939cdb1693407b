"""The shapes of our networks, known without Keras, so that a wrong setting is told at once."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gliorun.errors import GlioError

GAMMA_RULES = ("eq3", "eq2")


def check_drop(rate: float, block_size: int, gamma: str) -> None:
    """Raise ValueError unless the settings of DropBlock are valid."""
    if not 0 <= rate < 1:
        raise ValueError(f"rate is {rate}; it must lie in [0, 1)")
    if block_size < 1:
        raise ValueError(f"block_size is {block_size}; it must be at least 1")
    if gamma not in GAMMA_RULES:
        raise ValueError(f"gamma is {gamma!r}; it must be one of {GAMMA_RULES}")


@dataclass(frozen=True, slots=True)
class UnetShape:
    """What a U-net+DropBlock is built from.

    The paper gives 480 x 480 x 3 input, four down- and four up-samplings, two classes, a rate of
    10 % and blocks of 3 x 3. Filters, two convolutions a level and batch normalisation are our
    choice.

    A student (`glioexport.distil`) has a `stem` above 1: its first convolution steps that far, so
    that no level works at full resolution, and the last one makes `stem` x `stem` px of each place.
    With `separable`, a convolution is one over each channel, then one over each place. One class
    is nucleus alone, by a sigmoid.
    """

    height_px: int = 480
    width_px: int = 480
    filters: int = 16
    levels: int = 4
    classes: int = 2
    drop_rate: float = 0.1
    drop_block: int = 3
    drop_gamma: str = "eq3"
    drop_normalize: bool = True
    batch_norm: bool = True
    stem: int = 1
    convolutions: int = 2
    separable: bool = False

    def __post_init__(self) -> None:
        if self.stem < 1 or self.convolutions < 1:
            raise ValueError("stem and convolutions must be at least 1")
        step = self.stem * 2**self.levels
        for side in (self.height_px, self.width_px):
            if side < step or side % step:
                raise ValueError(f"input side is {side} px; it must be a multiple of {step}")
        if self.filters < 1 or self.levels < 1 or self.classes not in (1, 2):
            raise ValueError("filters and levels must be at least 1, classes 1 or 2")
        check_drop(self.drop_rate, self.drop_block, self.drop_gamma)

    @property
    def side_px(self) -> int:
        """Side of a square input."""
        return self.height_px

    def at(self, side_px: int) -> UnetShape:
        """Return the same network for squares of another side."""
        return replace(self, height_px=side_px, width_px=side_px)

    @property
    def name(self) -> str:
        """Name of the network, such as "U-net+DropBlock, 16 filters"."""
        stem = f", stem {self.stem}" if self.stem > 1 else ""
        return f"U-net{'+DropBlock' if self.drop_rate else ''}, {self.filters} filters{stem}"


STRIDE = 8
"""Of HoVer-Net: side of the image over the side of the deepest map."""
HOVER_LEARNING_RATE = 1e-4


@dataclass(frozen=True, slots=True)
class HoverShape:
    """What a HoVer-Net is built from.

    The defaults are the published one. `width` multiplies the filters of every layer;
    `encoder_units` are the residual units of each stage, `dense_units` those of each of a
    branch's two dense levels.
    """

    side_px: int = 480
    width: float = 1.0
    encoder_units: tuple[int, ...] = (3, 4, 6, 3)
    dense_units: tuple[int, ...] = (8, 4)

    def __post_init__(self) -> None:
        if self.side_px < STRIDE or self.side_px % STRIDE:
            raise GlioError(f"side_px is {self.side_px}; it must be a multiple of {STRIDE}")
        if self.width <= 0 or self.width * 8 % 1:
            raise GlioError(f"width is {self.width}; it must be a multiple of 1/8 above 0")
        for name, units, count in (
            ("encoder_units", self.encoder_units, 4),
            ("dense_units", self.dense_units, 2),
        ):
            if len(units) != count or min(units) < 1:
                raise GlioError(f"{name} is {units}; it must be {count} counts of at least 1")

    @property
    def name(self) -> str:
        """Name of the network, such as "HoVer-Net"."""
        return "HoVer-Net" + (f", width {self.width:g}" if self.width != 1 else "")

    def at(self, side_px: int) -> HoverShape:
        """Return the same network for squares of another side."""
        return replace(self, side_px=side_px)

    def filters(self, published: int) -> int:
        """Return the filters of a layer that has `published` filters at width 1."""
        return int(published * self.width)
