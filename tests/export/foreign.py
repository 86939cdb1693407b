"""Networks that people bring: not our U-net, but ones whose answer makes sense."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

DARK = 0.45
"""What is darker than that in red, 0 to 1, is nucleus in drawn tissue."""


def dark_unet(
    side: int | None = 64,
    *,
    levels: int = 2,
    channels: int = 1,
    ends: str | None = "sigmoid",
    pixel_range: str = "0..255",
    drop: Callable[[str], keras.Layer] | None = None,
    seed: int = 3,
) -> keras.Model:
    """Return a U-net that calls what is dark in red nucleus.

    One channel is darkness, taken through the topmost skip to the output; the others have random
    weights.

    Parameters
    ----------
    side : int or None
        Of the input; None leaves it open.
    levels, channels : int
    ends : str or None
        Activation of the last layer.
    pixel_range : {"0..255", "0..1", "-1..1"}
        What it expects of a pixel.
    drop : callable, optional
        Makes a layer, of a given name, to stand behind each convolution downwards.
    seed : int
    """
    random = np.random.default_rng(seed)
    image = keras.Input((side, side, 3))
    maps = image
    if pixel_range != "0..1":
        scale, offset = {"0..255": (1 / 255, 0.0), "-1..1": (0.5, 0.5)}[pixel_range]
        maps = layers.Rescaling(scale, offset)(image)
    skips = []
    for level in range(levels):
        convolution = layers.Conv2D(4, 3, padding="same", activation="relu", name=f"down{level}")
        maps = convolution(maps)
        if drop:
            maps = drop(f"drop{level}")(maps)
        skips.append(maps)
        maps = layers.MaxPooling2D(name=f"pool{level}")(maps)
    maps = layers.Conv2D(8, 3, padding="same", activation="relu", name="bottom")(maps)
    for level in reversed(range(levels)):
        maps = layers.Conv2DTranspose(4, 2, strides=2, name=f"rise{level}")(maps)
        maps = layers.Concatenate(name=f"skip{level}")([skips[level], maps])
        convolution = layers.Conv2D(4, 3, padding="same", activation="relu", name=f"up{level}")
        maps = convolution(maps)
    maps = layers.Conv2D(channels, 1, activation=ends, name="last")(maps)
    model = keras.Model(image, maps)
    for layer in model.layers:
        layer.set_weights([random.normal(0, 0.2, w.shape) for w in layer.get_weights()])
    _show_darkness(model)
    return model


def _show_darkness(model: keras.Model) -> None:
    kernel, bias = model.get_layer("down0").get_weights()
    kernel[..., 0], bias[0] = 0, 1
    kernel[1, 1, 0, 0] = -1
    model.get_layer("down0").set_weights([kernel, bias])
    kernel, bias = model.get_layer("up0").get_weights()
    kernel[..., 0], bias[0] = 0, 0
    kernel[1, 1, 0, 0] = 1
    model.get_layer("up0").set_weights([kernel, bias])
    kernel, bias = model.get_layer("last").get_weights()
    kernel[:], bias[:] = 0, 0
    kernel[0, 0, 0, -1], bias[-1] = 12, -12 * DARK
    model.get_layer("last").set_weights([kernel, bias])


def darkness_mask(window: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the mask, (H, W) uint8, that `dark_unet` gives for pixels (H, W, 3) uint8."""
    return (1 - window[..., 0] / 255 > DARK).astype(np.uint8)
