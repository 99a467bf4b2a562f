"""The baseline: a small convolutional network without any of what came after."""

from cifar_helpers.backend import keras
from cifar_helpers.models.layers import CLASSES, classifier, image_input, rescale

layers = keras.layers


def baseline_cnn(*, classes: int = CLASSES, centred: bool = False) -> keras.Model:
    """Two convolutions, two poolings and two dense layers: 315,722 parameters for 10 classes."""
    images = image_input()
    x = rescale(images, centred)
    for block, filters in enumerate((32, 64), start=1):
        x = layers.Conv2D(filters, 3, activation="relu", name=f"block{block}_conv")(x)
        x = layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    x = layers.Flatten(name="head_flatten")(x)
    x = layers.Dense(128, activation="relu", name="head_dense")(x)
    return keras.Model(images, classifier(x, classes), name="baseline_cnn")
