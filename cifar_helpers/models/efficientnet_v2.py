"""EfficientNetV2B0 and its ImageNet weights, both from Keras."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cifar_helpers.download import fetch, is_whole
from cifar_helpers.errors import WeightsError, user_path
from cifar_helpers.models.backbones import Weights, make_weights
from cifar_helpers.models.table import BACKBONES

if TYPE_CHECKING:
    from cifar_helpers.backend import keras

NAME = "efficientnetv2b0"
# Where Keras itself gets it without its top, and the file's MD5.
FILE = BACKBONES[NAME].weights_file
URL = "https://storage.googleapis.com/tensorflow/keras-applications/efficientnet_v2/" + FILE
MD5 = "893217f2bb855e2983157299931e43ff"


def build(image_shape: tuple[int, int, int]) -> "keras.Model":
    """EfficientNetV2B0 without its top, random weights: images in [0, 255] -> features.

    Reference: Tan and Le, "EfficientNetV2: Smaller Models and Faster Training", arXiv:2104.00298,
    ICML 2021.
    """
    from cifar_helpers.backend import keras  # which finding the weights can do without

    return keras.applications.EfficientNetV2B0(
        include_top=False, weights=None, input_shape=image_shape, include_preprocessing=True
    )


def load(model: "keras.Model", path: Path) -> None:
    """Set the weights from an HDF5 file.

    Raises:
        WeightsError: if it cannot be read, does not fit, or holds numbers that are not finite.
    """
    expected = f"weights_file must be an HDF5 file (.h5) like {FILE}"
    try:
        model.load_weights(path)
    except (ValueError, OSError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise WeightsError(
            f"{expected}, with the weights of EfficientNetV2B0 without its top; {path.name} does "
            f"not fit or cannot be read: {reason}"
        ) from error
    for layer in model.layers:
        if not all(np.isfinite(values).all() for values in layer.get_weights()):
            raise WeightsError(
                f"{expected}; in {path.name} the weights of the layer {layer.name} are not all "
                "finite numbers. Get a new copy of it."
            )


def find(weights_file: str = "") -> Weights:
    """Find the weights: the given file, else Keras' cache, else a download into it.

    A file other than the official one is tried out.

    Raises:
        WeightsError: if they cannot be had.
    """
    if weights_file:
        path = user_path(weights_file)
        if not path.is_file():
            raise WeightsError(
                f"weights_file must name an existing file; there is none at {path}. It should be a "
                f"copy of {FILE}, which Keras offers at {URL}."
            )
        if not _is_official(path):
            load(build((32, 32, 3)), path)  # So that a run fails before it has begun.
        return make_weights(NAME, "file", path)
    home = os.environ.get("KERAS_HOME") or os.path.join("~", ".keras")
    path = user_path(home) / "models" / FILE
    if _is_official(path):
        return make_weights(NAME, "Keras cache", path)
    try:
        fetch(path, [URL], known_hash=f"md5:{MD5}", what=FILE)
    except OSError as error:
        raise WeightsError(str(error)) from error
    return make_weights(NAME, "download", path)


def _is_official(path: Path) -> bool:
    return is_whole(path, f"md5:{MD5}")
