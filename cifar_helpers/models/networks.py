"""The four networks of the study, from a small CNN to transfer learning.

Every builder returns an uncompiled `keras.Model` that takes images of shape `(batch, 32, 32, 3)`,
uint8 or float in [0, 255], and gives class probabilities `(batch, classes)`, float32. Rescaling and
resizing happen inside, in layers without weights, so one data set serves all models.
"""

import re

import numpy as np

from cifar_helpers.backend import keras
from cifar_helpers.models import backbones
from cifar_helpers.models.layers import BatchNormalization

layers = keras.layers

IMAGE_SHAPE = (32, 32, 3)
CLASSES = 10


def _images() -> keras.KerasTensor:
    return layers.Input(IMAGE_SHAPE, name="images")


def _rescaled(images, centred: bool):
    # CIFAR-10's pixels have mean 121 and standard deviation 64.
    scale, offset = (1 / 64, -121 / 64) if centred else (1 / 255, 0.0)
    return layers.Rescaling(scale, offset=offset, name="rescale")(images)


def _classifier(x, classes: int):
    # float32 whatever the compute precision: a bfloat16 softmax has three significant digits.
    return layers.Dense(classes, activation="softmax", dtype="float32", name="predictions")(x)


def baseline_cnn(*, classes: int = CLASSES, centred: bool = False) -> keras.Model:
    """Two convolutions, two poolings and two dense layers: 315,722 parameters for 10 classes.

    Args:
        classes: number of classes.
        centred: bring pixels to about zero mean and unit variance rather than to [0, 1].

    Returns:
        An uncompiled model, images in [0, 255] -> probabilities.
    """
    images = _images()
    x = _rescaled(images, centred)
    for block, filters in enumerate((32, 64), start=1):
        x = layers.Conv2D(filters, 3, activation="relu", name=f"block{block}_conv")(x)
        x = layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    x = layers.Flatten(name="head_flatten")(x)
    x = layers.Dense(128, activation="relu", name="head_dense")(x)
    return keras.Model(images, _classifier(x, classes), name="baseline_cnn")


def vgg10(*, classes: int = CLASSES, dropout: float = 0.2, centred: bool = False) -> keras.Model:
    """Stacked 3x3 convolutions after VGG: 402,986 parameters for 10 classes.

    The "10" counts five convolutions, three poolings and two dense layers. There is no batch
    normalisation.

    Reference: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
    Recognition", arXiv:1409.1556, ICLR 2015.

    Args:
        classes: number of classes.
        dropout: rate after each pooling and before the classifier, in [0, 1).
        centred: bring pixels to about zero mean and unit variance rather than to [0, 1].

    Returns:
        An uncompiled model, images in [0, 255] -> probabilities.
    """
    images = _images()
    x = _rescaled(images, centred)
    for block, (filters, convolutions) in enumerate(((32, 2), (64, 2), (128, 1)), start=1):
        for number in range(1, convolutions + 1):
            name = f"block{block}_conv{number}"
            x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=name)(x)
        x = layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
        x = layers.Dropout(dropout, name=f"block{block}_dropout")(x)
    x = layers.Flatten(name="head_flatten")(x)
    x = layers.Dense(128, activation="relu", name="head_dense")(x)
    x = layers.Dropout(dropout, name="head_dropout")(x)
    return keras.Model(images, _classifier(x, classes), name="vgg10")


def _residual_block(x, filters: int, stride: int, name: str):
    """Two 3x3 convolutions and a shortcut; a 1x1 convolution where the shape changes."""
    shortcut = x
    if stride != 1 or x.shape[-1] != filters:
        shortcut = layers.Conv2D(filters, 1, strides=stride, name=f"{name}_shortcut_conv")(x)
        shortcut = BatchNormalization(momentum=0.9, name=f"{name}_shortcut_bn")(shortcut)
    x = layers.Conv2D(filters, 3, strides=stride, padding="same", name=f"{name}_conv1")(x)
    x = BatchNormalization(momentum=0.9, name=f"{name}_bn1")(x)
    x = layers.ReLU(name=f"{name}_relu1")(x)
    x = layers.Conv2D(filters, 3, padding="same", name=f"{name}_conv2")(x)
    x = BatchNormalization(momentum=0.9, name=f"{name}_bn2")(x)
    x = layers.Add(name=f"{name}_add")([shortcut, x])
    return layers.ReLU(name=f"{name}_relu2")(x)


def _stage(x, filters: int, blocks: int, first_stride: int, name: str):
    """Residual blocks of one resolution; the first one halves it when `first_stride` is 2."""
    for block in range(1, blocks + 1):
        stride = first_stride if block == 1 else 1
        x = _residual_block(x, filters, stride, name=f"{name}_block{block}")
    return x


def resnet20(*, classes: int = CLASSES, centred: bool = False) -> keras.Model:
    """ResNet-20 for 32x32 images: 274,826 parameters for 10 classes, 273,258 of them trainable.

    Reference: He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", section 4.2,
    arXiv:1512.03385, CVPR 2016. As in the study that is rebuilt here, convolutions keep their
    biases and a changed shape is projected by a 1x1 convolution (the paper's option B). Moving
    statistics follow with momentum 0.9: Keras' 0.99 lags behind in trainings of a few hundred steps.

    Args:
        classes: number of classes.
        centred: bring pixels to about zero mean and unit variance rather than to [0, 1].

    Returns:
        An uncompiled model, images in [0, 255] -> probabilities.
    """
    images = _images()
    x = _rescaled(images, centred)
    x = layers.Conv2D(16, 3, padding="same", name="stem_conv")(x)
    x = BatchNormalization(momentum=0.9, name="stem_bn")(x)
    x = layers.ReLU(name="stem_relu")(x)
    x = _stage(x, 16, blocks=3, first_stride=1, name="stage1")  # 32x32
    x = _stage(x, 32, blocks=3, first_stride=2, name="stage2")  # 16x16
    x = _stage(x, 64, blocks=3, first_stride=2, name="stage3")  # 8x8
    x = layers.GlobalAveragePooling2D(name="head_pool")(x)
    return keras.Model(images, _classifier(x, classes), name="resnet20")


def transfer(
    weights: backbones.Weights | str,
    *,
    image_size: int = 96,
    classes: int = CLASSES,
    dropout: float = 0.3,
) -> keras.Model:
    """A frozen ImageNet backbone under a new head; 6,255,962 parameters with EfficientNetV2B0.

    The backbone is built flat, so its layers are layers of this model. Its batch norms always use
    their moving statistics, in `fit` too. Everything below the head is frozen; `fine_tune` opens
    its last layers.

    Reference: Tan and Le, "EfficientNetV2: Smaller Models and Faster Training", arXiv:2104.00298,
    ICML 2021.

    Args:
        weights: what `backbones.resolve` gave; the plain name of a backbone builds the
            architecture with random weights, for counting and for tests.
        image_size: height and width that the images are resized to (bilinear), in pixels.
        classes: number of classes.
        dropout: rate before each of the head's dense layers, in [0, 1).

    Returns:
        An uncompiled model, images in [0, 255] -> probabilities.
    """
    images = _images()
    x = layers.Resizing(image_size, image_size, name="resize")(images)
    x = backbones.build(x, weights)
    x = layers.GlobalAveragePooling2D(name="head_pool")(x)
    x = layers.BatchNormalization(name="head_bn1")(x)
    x = layers.Dropout(dropout, name="head_dropout1")(x)
    x = layers.Dense(256, activation="relu", name="head_dense")(x)
    x = layers.BatchNormalization(name="head_bn2")(x)
    x = layers.Dropout(dropout, name="head_dropout2")(x)
    model = keras.Model(images, _classifier(x, classes), name="transfer")
    fine_tune(model, layers=0)
    return model


def _is_head(layer: keras.Layer) -> bool:
    return layer.name.startswith("head_") or layer.name == "predictions"


def backbone_layers(model: keras.Model) -> list[keras.Layer]:
    """The layers of a `transfer` model between the resized images and the head, in order."""
    names = [layer.name for layer in model.layers]
    return [layer for layer in model.layers[names.index("resize") + 1 :] if not _is_head(layer)]


def fine_tune(model: keras.Model, *, layers: int | None) -> None:
    """Freeze a `transfer` model's backbone but for its last layers; the head stays trainable.

    Batch norms of the opened layers train their scale and offset and keep their moving statistics:
    the backbone's batch norms never leave inference mode. Compile the model anew afterwards.

    Args:
        model: a model from `transfer`, changed in place.
        layers: how many of the last backbone layers to train; 0 freezes all, None opens all.

    Raises:
        ValueError: if there are not that many layers.
    """
    backbone = backbone_layers(model)
    count = len(backbone) if layers is None else layers
    if not 0 <= count <= len(backbone):
        raise ValueError(
            f"layers must be between 0 and the backbone's {len(backbone)}; received {layers}."
        )
    for position, layer in enumerate(backbone):
        layer.trainable = position >= len(backbone) - count


def split(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Cut a `transfer` model in two below its first layer that trains.

    What the frozen part makes of an image never changes, so it can be computed once; with the whole
    backbone frozen it is the pooled features `(batch, 1280)`. The cut is made where a single tensor
    crosses it, which may leave a few frozen layers above it.

    Args:
        model: a model from `transfer`, frozen as `fine_tune` left it.

    Returns:
        Images -> activations, and activations -> probabilities. Both share the model's layers.

    Raises:
        ValueError: if the first layer with weights trains, so that nothing is frozen below it.
    """
    layers_ = model.layers
    position = {layer.name: index for index, layer in enumerate(layers_)}
    trains = next(index for index, layer in enumerate(layers_) if layer.trainable_weights)
    reach = len(layers_)  # the lowest layer that anything above the cut reads
    cut = None
    for index in range(len(layers_) - 1, 0, -1):
        if index < trains and reach == index:
            cut = index
            break
        below = [
            position[tensor._keras_history.operation.name] for tensor in _inputs(layers_[index])
        ]
        reach = min(reach, *below)
    if cut is None or not any(layer.weights for layer in layers_[: cut + 1]):
        raise ValueError("split needs a frozen part below the first layer that trains; found none.")
    activations = layers_[cut].output
    return keras.Model(model.input, activations, name="trunk"), keras.Model(
        activations, model.output, name="tail"
    )


def _inputs(layer: keras.Layer) -> list[keras.KerasTensor]:
    return layer.input if isinstance(layer.input, list) else [layer.input]


def parameter_counts(model: keras.Model) -> dict[str, int]:
    """How many weights a model has in all, and how many of them are trained as it stands.

    Random-number states of dropout layers are not weights of the network and do not count.

    Returns:
        `{"total": int, "trainable": int}`.
    """
    return {
        "total": sum(int(np.prod(weight.shape)) for weight in model.weights),
        "trainable": sum(int(np.prod(weight.shape)) for weight in model.trainable_weights),
    }


def _layer_multiply_adds(layer: keras.Layer) -> int:
    kernel = getattr(layer, "kernel", None)
    if isinstance(layer, layers.DepthwiseConv2D):
        positions = int(np.prod(layer.output.shape[1:3]))
        return positions * int(np.prod(layer.kernel.shape))
    if isinstance(layer, layers.Conv2D):
        return int(np.prod(layer.output.shape[1:3])) * int(np.prod(kernel.shape))
    if isinstance(layer, layers.Dense):
        return int(np.prod(kernel.shape))
    return 0


def multiply_adds(model: keras.Model) -> int:
    """Multiply-adds of one image's forward pass, convolutions and dense layers counted."""
    return sum(_layer_multiply_adds(layer) for layer in model.layers)


def _stage_name(layer: keras.Layer) -> str:
    """The block that a layer belongs to, from its name: `stage2_block1_conv1` -> `stage2`."""
    if _is_head(layer):
        return "head"
    return re.match(r"(images|resize|rescale|block\d+|stage\d+|[a-z]+)", layer.name).group(1)


def stages(model: keras.Model) -> list[dict]:
    """The model block by block, for tables and diagrams.

    Returns:
        One dict a block, in order: `name`, `detail` (what it consists of), `output_shape` (without
        the batch), `parameters`, `multiply_adds`.
    """
    blocks: dict[str, list[keras.Layer]] = {}
    for layer in model.layers:
        blocks.setdefault(_stage_name(layer), []).append(layer)
    return [
        {
            "name": name,
            "detail": _describe(members),
            "output_shape": tuple(members[-1].output.shape[1:]),
            "parameters": sum(layer.count_params() for layer in members),
            "multiply_adds": sum(_layer_multiply_adds(layer) for layer in members),
        }
        for name, members in blocks.items()
        if name not in ("rescale", "rescaling", "normalization")  # arithmetic on the input
    ]


def _describe(members: list[keras.Layer]) -> str:
    kinds = {
        "Conv2D": "conv",
        "DepthwiseConv2D": "depthwise conv",
        "Dense": "dense",
        "MaxPooling2D": "max pool",
        "Resizing": "resize",
        "InputLayer": "input",
        "GlobalAveragePooling2D": "average pool",
    }
    counts: dict[str, int] = {}
    for layer in members:
        kind = kinds.get(type(layer).__name__)
        if kind:
            counts[kind] = counts.get(kind, 0) + 1
    return ", ".join(f"{count} {kind}" if count > 1 else kind for kind, count in counts.items())
