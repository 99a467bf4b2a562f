import numpy as np
import pytest
from tiny_training import TINY

from cifar_helpers import data, training
from cifar_helpers.backend import keras
from cifar_helpers.training.optimizers import compile_for

IMAGES = np.random.default_rng(0).integers(0, 256, (70, 4, 4, 3), dtype="uint8")
LABELS = np.arange(70)


def _trained_epochs(batches: data.Batches, first: int, epochs: int) -> list[np.ndarray]:
    """The images that `fit` trains on, epoch by epoch, as it gets them from `feed`."""
    seen: list[np.ndarray] = []

    class Watch(keras.layers.Layer):
        def call(self, inputs, training=None):
            if training:
                seen.append(np.asarray(inputs).astype("uint8"))
            return inputs

    inputs = keras.Input(IMAGES.shape[1:])
    outputs = keras.layers.Dense(1)(keras.layers.Flatten()(Watch()(inputs)))
    model = keras.Model(inputs, outputs)
    model.compile(loss="mse", run_eagerly=True)
    model.fit(
        training.feed(batches),
        initial_epoch=first,
        epochs=first + epochs,
        validation_data=training.feed(data.Batches(IMAGES, LABELS, 32, shuffle=False)),
        shuffle=False,
        verbose=0,
    )
    assert [len(batch) for batch in seen] == [16, 16, 16, 16, 6] * epochs
    return np.split(np.concatenate(seen), epochs)


def _batches(policy: str, epoch: int = 0) -> data.Batches:
    return data.Batches(IMAGES, LABELS, 16, policy=policy, seed=3, epoch=epoch)


def _sorted(images: np.ndarray) -> np.ndarray:
    flat = images.reshape(len(images), -1)
    return flat[np.lexsort(flat.T)]


def test_fit_gets_every_image_once_an_epoch_each_time_in_another_order():
    epochs = _trained_epochs(_batches("none"), 0, 3)
    for images in epochs:
        np.testing.assert_array_equal(_sorted(images), _sorted(IMAGES))
    assert not np.array_equal(epochs[0], epochs[1])
    assert not np.array_equal(epochs[1], epochs[2])


def test_fit_gets_the_batches_own_order():
    (images,) = _trained_epochs(_batches("none", epoch=5), 0, 1)
    batches = _batches("none", epoch=5)
    own = np.concatenate([batches[index][0] for index in range(len(batches))])
    np.testing.assert_array_equal(images, own)


def test_each_epoch_is_augmented_anew():
    one, other = _trained_epochs(_batches("crop_flip"), 0, 2)
    assert not np.array_equal(_sorted(one), _sorted(other))
    assert not np.array_equal(_sorted(one), _sorted(IMAGES))


@pytest.mark.parametrize("policy", ["none", "crop_flip"])
def test_the_epochs_after_resuming_are_those_of_an_uninterrupted_training(policy):
    whole = _trained_epochs(_batches(policy), 0, 4)
    resumed = _trained_epochs(_batches(policy, epoch=2), 2, 2)
    np.testing.assert_array_equal(whole[2:], resumed)


def test_the_epoch_advances_once_an_epoch():
    batches = _batches("flip")
    _trained_epochs(batches, 0, 3)
    assert batches.epoch == 3


def test_what_is_computed_in_bfloat16_comes_back_in_float32():
    network = training.build(TINY, precision="mixed_bfloat16")
    part = keras.Model(network.input, network.layers[-2].output)
    assert training.predict(part, np.zeros((2, 32, 32, 3), "uint8")).dtype == "float32"


def test_a_prediction_traces_the_network_once_whatever_a_block_of_steps_is(monkeypatch):
    model = training.build(TINY)
    compile_for(model, TINY.phases[0], steps=1, label_smoothing=0.0)
    step, traced = model.predict_step, []
    monkeypatch.setattr(model, "predict_step", lambda batch: traced.append(batch) or step(batch))
    images = np.zeros((1_024, 32, 32, 3), "uint8")  # two batches
    assert training.predict(model, images).shape == (1_024, 10)
    assert len(traced) == 1
    assert model.steps_per_execution == 16
