"""VGG-10: small convolutions, stacked."""

from collections.abc import Sequence

from cifar_helpers.backend import keras
from cifar_helpers.models.layers import CLASSES, classifier, image_input, rescale

layers = keras.layers


def vgg10(
    *,
    classes: int = CLASSES,
    dropout: float = 0.2,
    centred: bool = False,
    convolutions: Sequence[int] = (2, 2, 1),
) -> keras.Model:
    """Stacked 3x3 convolutions after VGG: 402,986 parameters for 10 classes.

    The "10" counts five convolutions, three poolings and two dense layers. There is no batch
    normalisation; `dropout` follows each pooling and the first dense layer. Other numbers of
    `convolutions` in the three blocks make other networks.

    Reference: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
    Recognition", arXiv:1409.1556, ICLR 2015.
    """
    images = image_input()
    x = rescale(images, centred)
    for block, (filters, count) in enumerate(zip((32, 64, 128), convolutions, strict=True), 1):
        for number in range(1, count + 1):
            name = f"block{block}_conv{number}"
            x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=name)(x)
        x = layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
        x = layers.Dropout(dropout, name=f"block{block}_dropout")(x)
    x = layers.Flatten(name="head_flatten")(x)
    x = layers.Dense(128, activation="relu", name="head_dense")(x)
    x = layers.Dropout(dropout, name="head_dropout")(x)
    return keras.Model(images, classifier(x, classes), name="vgg10")
