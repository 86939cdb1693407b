"""The levels that turn what a network gives into the inner, the deciding and the outer outline."""

from __future__ import annotations

from dataclasses import dataclass

from gliorun.errors import GlioError


@dataclass(frozen=True, slots=True)
class Outlines:
    """The levels from which a pixel lies within the inner outline of a nucleus, the outline that
    decides, and the outer one: 1 to 255, none larger than the one before.

    Raises
    ------
    GlioError
        The levels are in another order or range.
    """

    inner: int
    nucleus: int
    outer: int

    @property
    def have_band(self) -> bool:
        """Whether the inner and the outer outline are two."""
        return self.inner != self.outer

    def __post_init__(self) -> None:
        if not 1 <= self.outer <= self.nucleus <= self.inner <= 255:
            raise GlioError(
                f"levels of the inner, the deciding and the outer outline are {self.inner}, "
                f"{self.nucleus} and {self.outer}; each must lie from 1 to 255, and none above "
                "the one before it"
            )


OF_MASKS = Outlines(1, 1, 1)
"""The outlines of plain masks, which are levels that are not 0 on a nucleus."""
