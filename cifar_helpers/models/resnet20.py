"""ResNet-20: batch normalisation, and shortcuts past every two convolutions."""

from functools import partial

from cifar_helpers.backend import keras
from cifar_helpers.models.layers import (
    CLASSES,
    BatchNormalization,
    classifier,
    image_input,
    rescale,
)

layers = keras.layers


def residual_block(
    x: keras.KerasTensor,
    filters: int,
    stride: int,
    name: str,
    *,
    shortcuts: bool = True,
    batch_norm: bool = True,
) -> keras.KerasTensor:
    """Two 3x3 convolutions and a shortcut; a 1x1 convolution where the shape changes."""
    normalize = partial(BatchNormalization, momentum=0.9) if batch_norm else layers.Identity
    shortcut = x
    if shortcuts and (stride != 1 or x.shape[-1] != filters):
        shortcut = layers.Conv2D(filters, 1, strides=stride, name=f"{name}_shortcut_conv")(x)
        shortcut = normalize(name=f"{name}_shortcut_bn")(shortcut)
    x = layers.Conv2D(filters, 3, strides=stride, padding="same", name=f"{name}_conv1")(x)
    x = normalize(name=f"{name}_bn1")(x)
    x = layers.ReLU(name=f"{name}_relu1")(x)
    x = layers.Conv2D(filters, 3, padding="same", name=f"{name}_conv2")(x)
    x = normalize(name=f"{name}_bn2")(x)
    if shortcuts:
        x = layers.Add(name=f"{name}_add")([shortcut, x])
    return layers.ReLU(name=f"{name}_relu2")(x)


def resnet20(
    *,
    classes: int = CLASSES,
    centred: bool = False,
    shortcuts: bool = True,
    batch_norm: bool = True,
) -> keras.Model:
    """ResNet-20 for 32x32 images: 274,826 parameters for 10 classes, 273,258 of them trainable.

    Without `shortcuts` it is the paper's plain network of as many layers, and without `batch_norm`
    the convolutions follow one another directly.

    Reference: He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", section 4.2,
    arXiv:1512.03385, CVPR 2016. As in the original study, convolutions keep their
    biases and a changed shape is projected by a 1x1 convolution (the paper's option B). Moving
    statistics follow with momentum 0.9: Keras' 0.99 lags behind in trainings of a few hundred steps.
    """
    normalize = partial(BatchNormalization, momentum=0.9) if batch_norm else layers.Identity
    images = image_input()
    x = rescale(images, centred)
    x = layers.Conv2D(16, 3, padding="same", name="stem_conv")(x)
    x = normalize(name="stem_bn")(x)
    x = layers.ReLU(name="stem_relu")(x)
    # Three stages of three blocks: 32x32, 16x16 and 8x8 pixels.
    parts = {"shortcuts": shortcuts, "batch_norm": batch_norm}
    for stage, filters in enumerate((16, 32, 64), start=1):
        for block in range(1, 4):
            stride = 2 if stage > 1 and block == 1 else 1
            x = residual_block(x, filters, stride, f"stage{stage}_block{block}", **parts)
    x = layers.GlobalAveragePooling2D(name="head_pool")(x)
    return keras.Model(images, classifier(x, classes), name="resnet20")
