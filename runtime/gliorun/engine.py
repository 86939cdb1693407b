"""The only module that knows OpenVINO."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from gliorun.card import ModelCard, sha256_of
from gliorun.errors import GlioError

CARD_KEY = "gliorun_card"
"""Entry of the IR's `rt_info` that holds the card as JSON."""

Pixels = NDArray[np.uint8]
Mask = NDArray[np.uint8]


class HasPixels(Protocol):
    """Anything with an input of the network: (tile_px, tile_px, 3) uint8, C-contiguous."""

    @property
    def pixels(self) -> Pixels: ...


T = TypeVar("T", bound=HasPixels)


class Engine:
    """A compiled model: tiles in, (tile, mask) out, in order, several under way at once.

    Requests form a ring: a new tile waits for the oldest request. A failing inference therefore
    raises at its own tile.
    """

    def __init__(self, compiled: ov.CompiledModel, card: ModelCard, requests: int) -> None:
        self.card = card
        self.requests = requests
        self._ring = [compiled.create_infer_request() for _ in range(requests)]

    def predict(self, tiles: Iterable[T]) -> Generator[tuple[T, Mask]]:
        """Yield each tile with its mask, (tile_px, tile_px) uint8, 1 on a nucleus."""
        shape = (self.card.tile_px, self.card.tile_px, 3)
        free = deque(self._ring)
        under_way: deque[tuple[T, Pixels, ov.InferRequest]] = deque()

        def take_oldest() -> tuple[T, Mask]:
            tile, _, request = under_way.popleft()
            free.append(request)
            with _named_failure():
                request.wait()
            return tile, request.get_output_tensor().data[0].copy()

        try:
            for tile in tiles:
                if tile.pixels.shape != shape or tile.pixels.dtype != np.uint8:
                    raise GlioError(
                        f"a tile is {tile.pixels.dtype} {tile.pixels.shape}; "
                        f"the model takes uint8 {shape}"
                    )
                if not free:
                    yield take_oldest()
                request = free.popleft()
                batch = tile.pixels[None]
                with _named_failure():
                    request.start_async({0: batch}, share_inputs=True)
                under_way.append((tile, batch, request))  # keeps `batch` alive until it is done
            while under_way:
                yield take_oldest()
        finally:
            for _, _, request in under_way:
                request.cancel()
            for _, _, request in under_way:
                with suppress(RuntimeError):  # cancelled
                    request.wait()

    def masks(self, windows: Iterable[Pixels]) -> Generator[Mask]:
        """Yield the masks of plain windows, in order."""
        with closing(self.predict(_Window(window) for window in windows)) as pairs:
            for _, mask in pairs:
                yield mask


@contextmanager
def _named_failure() -> Generator[None]:
    """Turn what OpenVINO raises into a GlioError."""
    try:
        yield
    except RuntimeError as error:
        raise GlioError(f"inference failed: {error}") from error


class _Window:
    __slots__ = ("pixels",)

    def __init__(self, pixels: Pixels) -> None:
        self.pixels = np.ascontiguousarray(pixels)


def read_card(model: ov.Model, path: Path) -> ModelCard:
    """Return the card of an IR that has been read but not compiled.

    Raises
    ------
    GlioError
        There is no card, or not one of this format.
    """
    if not model.has_rt_info(CARD_KEY):
        raise GlioError(f"{path}: has no model card; make it with 'glioexport convert'")
    try:
        return ModelCard.from_json(model.get_rt_info(CARD_KEY).astype(str))
    except GlioError as error:
        raise GlioError(f"{path}: {error}") from error


def open_model(path: Path, *, requests: int | None = None, precision: str = "f32") -> Engine:
    """Read, check and compile an IR for the CPU.

    Parameters
    ----------
    path : Path
        The `.xml`; its `.bin` lies beside it.
    requests : int, optional
        Inferences under way at once; OpenVINO's choice for this machine by default.
    precision : {"f32", "bf16"}
        Precision of the layers that are not quantised.

    Raises
    ------
    GlioError
        The file is missing, damaged, without a card, altered since it was converted, or of
        another shape or type than uint8 (1, tile_px, tile_px, 3) in and uint8 mask out.
    """
    if requests is not None and requests < 1:
        raise GlioError(f"requests is {requests}; it must be at least 1")
    if path.suffix != ".xml":
        raise GlioError(f"{path}: not an OpenVINO IR (.xml); make one with 'glioexport convert'")
    weights = path.with_suffix(".bin")
    for file in (path, weights):
        if not file.is_file():
            raise GlioError(f"{file}: no such model file")
    core = ov.Core()
    try:
        model = core.read_model(path)
    except RuntimeError as error:
        raise GlioError(f"{path}: not an OpenVINO model, or damaged") from error
    card = read_card(model, path)
    if sha256_of(weights) != card.weights_sha256:
        raise GlioError(f"{weights}: does not match its card; convert the model again")
    _check_shape(model, card, path)
    compiled = core.compile_model(
        model, "CPU", {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": precision}
    )
    if requests is None:
        requests = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
    return Engine(compiled, card, requests)


def _check_shape(model: ov.Model, card: ModelCard, path: Path) -> None:
    side = card.tile_px
    for port, shape in ((model.inputs, (1, side, side, 3)), (model.outputs, (1, side, side))):
        if (
            len(port) != 1
            or port[0].get_partial_shape().is_dynamic
            or tuple(port[0].get_shape()) != shape
            or port[0].get_element_type() != ov.Type.u8
        ):
            raise GlioError(f"{path}: its input or output is not uint8 {shape}")
