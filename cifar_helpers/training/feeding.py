"""Images on their way into a network."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from cifar_helpers import data
from cifar_helpers.backend import keras, on_tensorflow_cpu


def feed(batches: data.Batches) -> Any:
    """Batches as `fit` and `predict` take them in without delay.

    Keras would wrap them in a `tf.data` pipeline that tunes itself. When an epoch ends TensorFlow
    2.21 often sits idle until the tuner wakes, 5, 10, 20 or 41 s after the epoch's beginning: one
    that had taken 22 s took 41.

    Args:
        batches: of images or activations, of any order and augmentation.

    Returns:
        With TensorFlow the same batches as a `tf.data.Dataset` that does not tune itself, else the
        batches.
    """
    if keras.backend.backend() != "tensorflow":
        return batches
    import tensorflow as tf

    def epoch():
        batches.on_epoch_begin()
        # The first augments them all: in a thread that, unlike tf.data's, may use every core.
        with ThreadPoolExecutor(1) as thread:
            first = thread.submit(batches.__getitem__, 0).result()
        for index in range(len(batches)):
            batch = batches[index] if index else first
            if index == len(batches) - 1:  # nobody asks what comes after the last one
                batches.on_epoch_end()
            yield batch

    signature = tuple(tf.TensorSpec((None, *array.shape[1:]), array.dtype) for array in batches[0])
    dataset = tf.data.Dataset.from_generator(epoch, output_signature=signature)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(batches))).prefetch(2)
    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.private_threadpool_size = 1
    return dataset.with_options(options)


def in_order(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> data.Batches:
    """Batches of images or activations as they come, of a size that suits the network."""
    enlarges = any(isinstance(layer, keras.layers.Resizing) for layer in model.layers)
    # Enlarged images need more memory: 64 at 224 pixels take about as much as 2,000 at 32.
    return data.Batches(images, labels, 64 if enlarges else 512, shuffle=False)


def predict(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """What a network, or a part of one, makes of uint8 images `(n, 32, 32, 3)`, float32 `(n, ...)`."""
    if on_tensorflow_cpu():
        model.jit_compile = False  # a network that is not compiled would go through XLA
    batches = in_order(model, images, np.zeros(len(images), "int64"))
    # Of a block of steps Keras' `predict` traces each, which takes longer than the steps.
    steps, model.steps_per_execution = model.steps_per_execution, 1
    try:
        # In bfloat16 what comes before the head is no type that NumPy has.
        return model.predict(feed(batches), verbose=0).astype("float32", copy=False)
    finally:
        model.steps_per_execution = steps
