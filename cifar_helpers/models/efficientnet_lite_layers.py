"""The layers of EfficientNet-Lite."""

from collections.abc import Sequence

import numpy as np

from cifar_helpers.backend import keras
from cifar_helpers.models.layers import DepthwiseConv2D, InferenceBatchNormalization

layers = keras.layers

# Of EfficientNet-B0's seven stages (arXiv:1905.11946, table 1), the same in all sizes of Lite.
KERNEL_SIZES = (3, 3, 5, 3, 5, 5, 3)
STRIDES = (1, 2, 2, 2, 1, 2, 1)
EXPANSIONS = (1, 6, 6, 6, 6, 6, 6)


def build_network(
    image_shape: tuple[int, int, int], all_filters: Sequence[int], all_repeats: Sequence[int]
) -> keras.Model:
    """As of `EfficientNetLite.build`, from the filters and the number of blocks of each stage."""
    images = layers.Input(image_shape, name="images")
    x = layers.Rescaling(1 / 128, offset=-127 / 128, name="rescale")(images)
    x = _convolution(x, 32, 3, strides=2, name="stem_")
    number = 0
    for stage, (filters, repeats) in enumerate(zip(all_filters, all_repeats, strict=True)):
        for repeat in range(repeats):
            x = _inverted_residual(
                x,
                filters,
                KERNEL_SIZES[stage],
                strides=1 if repeat else STRIDES[stage],
                expansion=EXPANSIONS[stage],
                drop_rate=0.2 * number / sum(all_repeats),  # as in training on ImageNet
                name=f"block{stage + 1}{'abcdefgh'[repeat]}_",  # as in Keras' EfficientNets
            )
            number += 1
    return keras.Model(images, _convolution(x, 1280, 1, name="top_"))


def keras_weights(
    layer: keras.Layer, name: str, tensors: dict[str, np.ndarray]
) -> list[np.ndarray]:
    """A layer's weights in Keras' layout, from PyTorch's."""
    if isinstance(layer, layers.BatchNormalization):
        return [tensors[f"{name}.{x}"] for x in ("weight", "bias", "running_mean", "running_var")]
    # From (out, in, height, width); depthwise from (channels, 1, height, width).
    order = (2, 3, 0, 1) if isinstance(layer, layers.DepthwiseConv2D) else (2, 3, 1, 0)
    return [tensors[f"{name}.weight"].transpose(order)]


def _inverted_residual(
    x, filters: int, kernel_size: int, *, strides: int, expansion: int, drop_rate: float, name: str
):
    """Expansion, depthwise convolution, linear projection; a shortcut where shapes allow it."""
    shortcut = x
    if expansion != 1:
        x = _convolution(x, x.shape[-1] * expansion, 1, name=f"{name}expand_")
    options = {"strides": strides, "padding": "same", "use_bias": False}
    x = DepthwiseConv2D(kernel_size, **options, name=f"{name}dwconv")(x)
    x = _normalize(x, name)
    x = _convolution(x, filters, 1, name=f"{name}project_", linear=True)
    if shortcut.shape == x.shape:
        # One number an image: the whole branch is dropped (arXiv:1603.09382), not single values.
        x = layers.Dropout(drop_rate, noise_shape=(None, 1, 1, 1), name=f"{name}drop")(x)
        x = layers.Add(name=f"{name}add")([x, shortcut])
    return x


def _convolution(x, filters: int, kernel_size: int, *, name: str, strides=1, linear=False):
    options = {"strides": strides, "padding": "same", "use_bias": False}
    x = layers.Conv2D(filters, kernel_size, **options, name=f"{name}conv")(x)
    return _normalize(x, name, linear)


def _normalize(x, name: str, linear: bool = False):
    x = InferenceBatchNormalization(epsilon=1e-3, momentum=0.99, name=f"{name}bn")(x)
    return x if linear else layers.ReLU(6.0, name=f"{name}activation")(x)
