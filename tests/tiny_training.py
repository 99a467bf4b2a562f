"""Recipes of a few epochs and a backbone of a few weights, for tests that train."""

from dataclasses import replace

import numpy as np

from cifar_helpers import models
from cifar_helpers.backend import keras
from cifar_helpers.models import backbones, layers
from cifar_helpers.recipes import Phase, Recipe

TINY = Recipe(
    model="baseline_cnn",
    name="improved",
    changes="",
    phases=(
        Phase(
            epochs=3,
            batch_size=16,
            optimizer="adamw",
            learning_rate=1e-3,
            schedule="linear",
            warmup=0.2,
            weight_decay=1e-2,
            ema=0.9,
        ),
    ),
    augmentation="crop2_flip",
    label_smoothing=0.1,
)
_ADAM = Phase(epochs=4, batch_size=16, optimizer="adam", learning_rate=1e-3)
STOPPING = replace(TINY, phases=(replace(_ADAM, early_stopping=2, reduce_on_plateau=1),))
TRANSFER = Recipe(
    model="transfer",
    name="96px",
    changes="",
    phases=(replace(_ADAM, epochs=2), replace(_ADAM, epochs=2, unfrozen=None)),
    augmentation="flip",
    dropout=0.1,
    image_size=32,
)

BLOCKS = 6
BACKBONE = models.Backbone(
    name="tiny",
    label="Tiny",
    builder="tiny_training:build_backbone",
    loader="tiny_training:load_backbone",
    finder="tiny_training:find_backbone",
)


# As many layers as the recipes unfreeze, most of which do nothing.
DEEP_BACKBONE = replace(BACKBONE, builder="tiny_training:build_deep_backbone")


def build_deep_backbone(image_shape) -> keras.Model:
    return build_backbone(image_shape, idle=6)


def build_backbone(image_shape, idle: int = 0) -> keras.Model:
    images = keras.Input(image_shape)
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="rescale")(images)
    for block in range(1, BLOCKS + 1):
        name = f"block{block}"
        # As wide as its stride: oneDNN's gradient of a strided 1 x 1 convolution of fewer than 8 or 16
        # channels corrupts memory (https://github.com/uxlfoundation/oneDNN/issues/6035).
        stride = 1 + (block < 4)
        x = keras.layers.Conv2D(4, stride, strides=stride, name=f"{name}_conv")(x)
        x = layers.InferenceBatchNormalization(name=f"{name}_bn")(x)
        x = keras.layers.ReLU(name=f"{name}_relu")(x)
        for number in range(idle):
            x = keras.layers.Identity(name=f"{name}_idle{number}")(x)
    x = keras.layers.DepthwiseConv2D(3, padding="same", name="top_depthwise_conv")(x)
    return keras.Model(images, x)


def load_backbone(model, path) -> None:
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if "conv" in weight.path:
            # All above 0, so that no ReLU keeps the gradients from the layers below.
            weight.assign(rng.uniform(0, 0.5, weight.shape) / np.prod(weight.shape[:2]))


def find_backbone(weights_file) -> backbones.Weights:
    return backbones.Weights("tiny", "test", "0" * 64, path="none")
