"""Works of Keras: by this study, by stock Keras, and by stock Keras as it comes."""

import importlib
import time
from dataclasses import replace
from functools import partial

import numpy as np
from timing import Work
from works import Task, images_of

from cifar_helpers import models, recipes, training
from cifar_helpers.backend import keras
from cifar_helpers.models import backbones

BACKBONE = "efficientnet-lite0"


class ReadyMade(keras.utils.PyDataset):
    """An epoch's batches, made beforehand, so that feeding them costs next to nothing."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, batch: int):
        super().__init__()
        starts = range(0, len(images), batch)
        self.batches = [(images[i : i + batch], labels[i : i + batch]) for i in starts]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int):
        return self.batches[index]


def recipe_of(task: Task) -> recipes.Recipe:
    """As the study trains it: the first recipe's first phase, or the last one's last."""
    if not _has_backbone(task):
        return recipes.of_model(task.model)[0]
    recipe = recipes.select(task.model, ["improved"])[0]
    phase = replace(recipe.phases[-1], unfrozen=task.unfrozen)
    return replace(recipe, image_size=task.image_size, phases=(phase,))


def _has_backbone(task: Task) -> bool:
    return models.MODELS[task.model].has_backbone


def build(task: Task, precision: str) -> keras.Model:
    """The task's network as the study has it."""
    if not _has_backbone(task):
        return training.build(recipe_of(task), precision=precision)
    weights = backbones.resolve(BACKBONE)
    network = training.build(recipe_of(task), weights, precision=precision)
    models.fine_tune(network, layers=task.unfrozen)
    return network


def ours(task: Task, precision: str) -> Work:
    """The study's way, in one of Keras' policies."""
    network = build(task, precision)
    if not task.trains:
        return partial(_predict, network, task)
    recipe = recipe_of(task)
    if _has_backbone(task):
        network = models.fold_frozen(network)
    training.compile_for(network, recipe.phases[0], task.steps, recipe.label_smoothing)
    return partial(_fit, network, task)


def _predict(network: keras.Model, task: Task, steps: float) -> None:
    training.predict(network, images_of(task, steps)[0])


def stock(task: Task, precision: str) -> Work:
    """Stock Keras at its best: its own layers, without XLA, fed as ours."""
    network = _stock_network(task, precision)
    network.compile(
        "adam", "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False
    )
    return partial(_fit, network, task)


def _stock_network(task: Task, precision: str) -> keras.Model:
    module = importlib.import_module("cifar_helpers.models.resnet20")
    own = module.BatchNormalization
    module.BatchNormalization = keras.layers.BatchNormalization
    try:
        return build(task, precision)
    finally:
        module.BatchNormalization = own


def _fit(network: keras.Model, task: Task, steps: float) -> None:
    batches = training.feed(ReadyMade(*images_of(task, steps), task.batch))
    network.fit(batches, shuffle=False, verbose=0)


def newcomer(task: Task, precision: str) -> Work:
    """Stock Keras as it comes: `fit` on arrays, oneDNN and XLA as TensorFlow and Keras have them.

    It answers with the seconds from its first step to its last: what it waits for at an epoch's
    end is the same for short and long ones and would weigh too much here.
    """
    network = _stock_network(task, precision)
    network.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])

    def work(steps: float) -> float:
        clock = _Clock()
        images, labels = images_of(task, steps)
        network.fit(images, labels, batch_size=task.batch, verbose=0, callbacks=[clock])
        return clock.ended - clock.started

    return work


class _Clock(keras.callbacks.Callback):
    started = ended = 0.0

    def on_train_batch_begin(self, batch, logs=None):
        self.started = self.started or time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.ended = time.perf_counter()
