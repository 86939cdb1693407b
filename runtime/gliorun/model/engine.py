"""Run a model; the only module that imports OpenVINO."""

from __future__ import annotations

import math
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from gliorun import defaults
from gliorun.errors import GlioError, StalledError, UsageError
from gliorun.model.card import ModelCard, sha256_of
from gliorun.processors import permitted, processors
from gliorun.reading.files import check_file

CARD_KEY = "gliorun_card"
"""Key in the `rt_info` of an IR under which the card lies as JSON."""

CORES = {"any": "ANY_CORE", "performance": "PCORE_ONLY", "efficiency": "ECORE_ONLY"}
PRECISIONS = ("f32", "bf16", "auto")
CONVOLUTIONS = ("Convolution", "Deconvolution")
POLL_MS = 500
"""Interval at which a wait checks for Ctrl-C and for its deadline."""

Pixels = NDArray[np.uint8]
Levels = NDArray[np.uint8]
Mask = NDArray[np.uint8]


class HasPixels(Protocol):
    """Any object whose `pixels` are an input: (tile_px, tile_px, 3) uint8, C-contiguous."""

    @property
    def pixels(self) -> Pixels: ...


T = TypeVar("T", bound=HasPixels)


@dataclass(frozen=True, slots=True)
class Compute:
    """The device and options for running a model; None chooses a value for this machine.

    Parameters
    ----------
    device : str
        OpenVINO's name: CPU, GPU, NPU, AUTO, MULTI:GPU,CPU …
    requests : int, optional
        Number of inferences submitted at once.
    streams : int, optional
        Number of inferences that the device computes in parallel.
    threads : int, optional
        Processor threads of the network.
    cores : {"any", "performance", "efficiency"}
        The cores of a hybrid processor to use.
    precision : {"f32", "bf16", "auto"}
        Precision of the layers that are not quantised. "auto" means bf16 for a model that is not
        INT8, if the processor supports it: twice as fast, density within 0.02 points.
    timeout_s : float
        Seconds after which a hanging inference is given up.
    """

    device: str = defaults.DEVICE
    requests: int | None = None
    streams: int | None = None
    threads: int | None = None
    cores: str = defaults.CORES
    precision: str = defaults.PRECISION
    timeout_s: float = defaults.TIMEOUT_S

    def __post_init__(self) -> None:
        counts = {
            "requests": self.requests,
            "streams": self.streams,
            "network threads": self.threads,
        }
        for name, number in counts.items():
            if number is not None and number < 1:
                raise UsageError(f"{name} is {number}; it must be at least 1")
        for name, choices in (("cores", tuple(CORES)), ("precision", PRECISIONS)):
            if getattr(self, name) not in choices:
                raise UsageError(f"{name} is {getattr(self, name)!r}; known: {', '.join(choices)}")
        if not 0 < self.timeout_s < math.inf:
            raise UsageError(f"timeout is {self.timeout_s:g} s; it must be above 0")

    def settled(self, card: ModelCard, able: list[str]) -> Compute:
        """Return these options with the precision for a model on a device of capabilities `able`.

        "auto" remains only for an NPU, which has its own precision.
        """
        precision = self.precision
        if "NPU" in self.device:
            precision = "auto"
        elif precision == "auto" and card.precision == "INT8":
            precision = "f32"
        elif precision == "auto" or self.device == "CPU":
            precision = "bf16" if precision != "f32" and "BF16" in able else "f32"
        return replace(self, precision=precision)

    def properties(self, most_threads: int | None = None) -> dict[str, Any]:
        """Return the properties for OpenVINO; `most_threads` is the default on a processor."""
        properties: dict[str, Any] = {"PERFORMANCE_HINT": "THROUGHPUT"}
        if self.precision != "auto":
            properties["INFERENCE_PRECISION_HINT"] = self.precision
        if self.device == "CPU":
            properties["SCHEDULING_CORE_TYPE"] = CORES[self.cores]
        if self.streams is not None:
            properties["NUM_STREAMS"] = str(self.streams)
        threads = self.threads or (most_threads if self.device == "CPU" else None)
        if threads is not None:
            properties["INFERENCE_NUM_THREADS"] = threads
        return properties


EXACT = Compute(precision="f32")
"""Layers that are not quantised in full precision: for what is compared with Keras."""


class Engine:
    """A compiled model: takes tiles, yields (tile, levels) in order, runs several at once.

    Requests form a ring: a new tile waits for the oldest request. A failing inference therefore
    raises at its own tile, and a hanging one is given up after `timeout_s`. `compute` holds the
    requested options, with the precision that was chosen.
    """

    def __init__(
        self,
        compiled: ov.CompiledModel,
        card: ModelCard,
        requests: int,
        compute: Compute,
        before_each: Callable[[], None] = lambda: None,
    ) -> None:
        self.card = card
        self.requests = requests
        self.compute = compute
        self._compiled = compiled
        self._timeout_s = compute.timeout_s
        self._before_each = before_each
        self._ring = [compiled.create_infer_request() for _ in range(requests)]

    def another(self, before_each: Callable[[], None] = lambda: None) -> Engine:
        """Return an engine of the same compiled model with requests of its own, for a thread.

        `before_each` is called before each tile; it may wait, or raise to end the work.
        """
        return Engine(self._compiled, self.card, self.requests, self.compute, before_each)

    def choices(self) -> dict[str, str]:
        """Return the device and options in use, as far as the device reports them."""
        choices = {"requests": str(self.requests)}
        for what, name in (
            ("device", "EXECUTION_DEVICES"),
            ("precision", "INFERENCE_PRECISION_HINT"),
            ("streams", "NUM_STREAMS"),
            ("threads", "INFERENCE_NUM_THREADS"),
            ("cores", "SCHEDULING_CORE_TYPE"),
        ):
            with suppress(RuntimeError):
                value = self._compiled.get_property(name)
                if isinstance(value, ov.Type):
                    value = value.get_type_name()
                text = "+".join(value) if isinstance(value, list) else str(value)
                choices[what] = text.rpartition(".")[-1]
        return choices

    def kernels(self) -> dict[str, int]:
        """Return what the convolutions compute with, as "avx512_amx I8", and in how many layers.

        Empty where the device does not tell.
        """
        with suppress(RuntimeError):
            layers = (layer.get_rt_info() for layer in self._compiled.get_runtime_model().get_ops())
            names = [
                _instructions(layer["primitiveType"].astype(str))
                for layer in layers
                if "primitiveType" in layer and layer["layerType"].astype(str) in CONVOLUTIONS
            ]
            return dict(Counter(names).most_common())
        return {}

    def predict(self, tiles: Iterable[T]) -> Generator[tuple[T, Levels]]:
        """Yield each tile with its levels, (tile_px, tile_px) uint8, higher on a nucleus."""
        shape = (self.card.tile_px, self.card.tile_px, 3)
        free = deque(self._ring)
        under_way: deque[tuple[T, Pixels, ov.InferRequest]] = deque()

        def take_oldest() -> tuple[T, Levels]:
            tile, _, request = under_way[0]
            with _named_failure():
                self._wait(request, self._deadline())
            under_way.popleft()
            free.append(request)
            # the tensor is the request's own, which the next tile overwrites
            return tile, request.get_output_tensor().data[0].copy()

        try:
            for tile in tiles:
                self._before_each()
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
                under_way.append(
                    (tile, batch, request)
                )  # keeps `batch` alive until the inference is done
            while under_way:
                yield take_oldest()
        finally:
            for _, _, request in under_way:
                request.cancel()
            deadline = self._deadline()  # one deadline for all, because each may hang
            for _, _, request in under_way:
                with suppress(RuntimeError, StalledError):  # cancelled or hanging
                    self._wait(request, deadline)

    def _deadline(self) -> float:
        return time.monotonic() + self._timeout_s

    def _wait(self, request: ov.InferRequest, deadline: float) -> None:
        while not request.wait_for(POLL_MS):
            if time.monotonic() > deadline:
                raise StalledError(
                    f"an inference has not come back within {self._timeout_s:g} s; start again, "
                    "with a longer --timeout if the machine is that slow"
                )

    def levels(self, windows: Iterable[Pixels]) -> Generator[Levels]:
        """Yield the levels of plain windows, in order."""
        with closing(self.predict(_Window(window) for window in windows)) as pairs:
            for _, levels in pairs:
                yield levels

    def masks(self, windows: Iterable[Pixels]) -> Generator[Mask]:
        """Yield the masks of plain windows, 1 on a nucleus by the model's card, in order."""
        with closing(self.levels(windows)) as every:
            for levels in every:
                yield (levels >= self.card.nucleus_level).view(np.uint8)


def _instructions(primitive: str) -> str:
    """Return the instructions and precision in OpenVINO's name of a primitive.

    It is "brgconv_avx512_amx_1x1_I8" for "avx512_amx I8"; a name of another form stays as it is.
    """
    parts = re.fullmatch(r"[a-z]+_(?P<set>.+?)(_1x1|_dw)?_(?P<precision>[A-Za-z]+\d+)", primitive)
    return f"{parts['set']} {parts['precision']}" if parts else primitive


@contextmanager
def _named_failure() -> Generator[None]:
    """Turn an error of OpenVINO into a GlioError."""
    try:
        yield
    except RuntimeError as error:
        raise GlioError(
            f"inference failed: {error}; run again, with --device CPU if it was another"
        ) from error


class _Window:
    __slots__ = ("pixels",)

    def __init__(self, pixels: Pixels) -> None:
        self.pixels = np.ascontiguousarray(pixels)


def read_card(model: ov.Model, path: Path) -> ModelCard:
    """Return the card of an IR that was read but not compiled.

    Raises
    ------
    GlioError
        The IR has no card, or a card of another format.
    """
    if not model.has_rt_info(CARD_KEY):
        raise GlioError(f"{path}: has no model card; make it with 'glioexport convert'")
    try:
        return ModelCard.from_json(model.get_rt_info(CARD_KEY).astype(str))
    except GlioError as error:
        raise GlioError(f"{path}: {error}") from error


def open_model(path: Path, compute: Compute | None = None) -> Engine:
    """Read, check and compile an IR, `path` (.xml) with its `.bin` beside it.

    Raises
    ------
    GlioError
        The file is missing, damaged, without a card, altered since it was converted, or of
        another shape or type than uint8 (1, tile_px, tile_px, 3) in and uint8 levels out; or this
        machine has no such device.
    """
    core = ov.Core()
    model, card = _read_model(core, path)
    weights = path.with_suffix(".bin")
    if sha256_of(weights) != card.weights_sha256:
        raise GlioError(f"{weights}: does not match its card; convert the model again")
    _check_shape(model, card, path)
    compute = compute or Compute()
    compute = compute.settled(card, _able(core, compute))
    # OpenVINO counts processors but ignores limits on their time
    most_threads = processors() if processors() < permitted() else None
    try:
        compiled = core.compile_model(model, compute.device, compute.properties(most_threads))
    except RuntimeError as error:
        here = ", ".join(core.available_devices)
        raise GlioError(
            f"{compute.device}: no such device, or not for {path.name}; this machine has {here}"
        ) from error
    requests = compute.requests
    if requests is None:
        # one queued behind each running inference: a tenth faster with a small network
        requests = 2 * int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
    return Engine(compiled, card, requests, compute)


def compute_here(path: Path, compute: Compute) -> Compute:
    """Return `compute` with the precision of the model at `path` on this machine.

    Raises
    ------
    GlioError
        The model is missing, damaged or without a card.
    """
    core = ov.Core()
    _, card = _read_model(core, path)
    return compute.settled(card, _able(core, compute))


def _able(core: ov.Core, compute: Compute) -> list[str]:
    """Return the processor's capabilities by OpenVINO's names; none for other devices."""
    if compute.device != "CPU":
        return []
    return list(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def _read_model(core: ov.Core, path: Path) -> tuple[ov.Model, ModelCard]:
    """Read an IR and its card."""
    if path.suffix != ".xml":
        raise GlioError(f"{path}: not an OpenVINO IR (.xml); make one with 'glioexport convert'")
    for file in (path, path.with_suffix(".bin")):
        check_file(file, "model file", "--model takes an .xml with its .bin beside it")
    try:
        model = core.read_model(path)
    except RuntimeError as error:
        raise GlioError(
            f"{path}: not an OpenVINO model, or damaged; convert the model again"
        ) from error
    return model, read_card(model, path)


def _check_shape(model: ov.Model, card: ModelCard, path: Path) -> None:
    side = card.tile_px
    for port, shape in ((model.inputs, (1, side, side, 3)), (model.outputs, (1, side, side))):
        if (
            len(port) != 1
            or port[0].get_partial_shape().is_dynamic
            or tuple(port[0].get_shape()) != shape
            or port[0].get_element_type() != ov.Type.u8
        ):
            raise GlioError(
                f"{path}: its input or output is not uint8 {shape}; make it with "
                "'glioexport convert'"
            )
