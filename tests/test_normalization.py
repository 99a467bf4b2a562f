import numpy as np
import pytest

from cifar_helpers.normalization import BatchNormalization
from cifar_helpers.quiet import keras

SHAPE = (16, 6, 5, 3)


def _pair(**options):
    """Ours and the stock layer with the same, not quite initial, weights."""
    layers = [kind(name="bn", **options) for kind in (BatchNormalization, _stock())]
    rng = np.random.default_rng(1)
    weights = None
    for layer in layers:
        layer.build(SHAPE)
        weights = weights or [rng.uniform(0.5, 2, weight.shape) for weight in layer.weights]
        layer.set_weights(weights)
    return layers


def _stock():
    return keras.layers.BatchNormalization


def _images(seed=0):
    return np.random.default_rng(seed).normal(3, 2, SHAPE).astype("float32")


def _as_numpy(values):
    return [keras.ops.convert_to_numpy(value) for value in values]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", [{}, {"momentum": 0.9, "epsilon": 1e-5}])
def test_outputs_and_moving_statistics_are_the_stock_layers(training, options):
    ours, stock = _pair(**options)
    for seed in range(3):
        outputs = [layer(_images(seed), training=training) for layer in (ours, stock)]
        np.testing.assert_allclose(*_as_numpy(outputs), atol=2e-5)
    for one, other in zip(ours.get_weights(), stock.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_gradients_are_the_stock_layers(training):
    tf = pytest.importorskip("tensorflow")
    found = []
    for layer in _pair():
        images = tf.constant(_images())
        with tf.GradientTape() as tape:
            tape.watch(images)
            loss = tf.reduce_sum(layer(images, training=training) ** 3)
        gradients = tape.gradient(loss, [images, layer.gamma.value, layer.beta.value])
        found.append(_as_numpy(gradients))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-3 * np.abs(other).max())


def test_a_frozen_layer_keeps_its_statistics_as_the_stock_layer_does():
    for layer in _pair():
        layer.trainable = False
        before = layer.get_weights()
        layer(_images(), training=True)
        for one, other in zip(before, layer.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


def test_inputs_that_the_fused_operation_does_not_take_fall_back():
    ours, stock = BatchNormalization(), _stock()()
    features = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    outputs = [layer(features, training=True) for layer in (ours, stock)]
    np.testing.assert_allclose(*_as_numpy(outputs), atol=1e-6)


def test_bfloat16_activations_keep_float32_statistics():
    layer = BatchNormalization(dtype="mixed_bfloat16")
    outputs = layer(keras.ops.cast(_images(), "bfloat16"), training=True)
    assert keras.backend.standardize_dtype(outputs.dtype) == "bfloat16"
    assert {weight.dtype for weight in layer.weights} == {"float32"}
    assert np.isfinite(layer.get_weights()[2]).all()


def test_training_with_it_is_training_with_the_stock_layer():
    histories = []
    for kind in (BatchNormalization, _stock()):
        keras.utils.set_random_seed(0)
        inputs = keras.Input(SHAPE[1:])
        x = keras.layers.Conv2D(4, 3)(inputs)
        x = keras.layers.GlobalAveragePooling2D()(kind(name="bn")(x))
        model = keras.Model(inputs, keras.layers.Dense(1)(x))
        model.compile("sgd", "mse", jit_compile=False)
        target = np.arange(16.0)[:, None] / 16
        fitted = model.fit(_images(), target, batch_size=8, epochs=5, shuffle=False, verbose=0)
        histories.append(fitted.history["loss"])
    np.testing.assert_allclose(*histories, rtol=1e-3)


def test_a_saved_model_loads_and_its_weights_load_into_the_stock_layer(tmp_path):
    inputs = keras.Input(SHAPE[1:])
    model = keras.Model(inputs, BatchNormalization(name="bn", epsilon=1e-4)(inputs))
    model.layers[1].set_weights(_pair()[0].get_weights())
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.layers[1]) is BatchNormalization and loaded.layers[1].epsilon == 1e-4
    stock = keras.Model(inputs, _stock()(name="bn", epsilon=1e-4)(inputs))
    stock.set_weights(loaded.get_weights())
    expected = model.predict(_images(), verbose=0)
    for other in (loaded, stock):
        np.testing.assert_allclose(other.predict(_images(), verbose=0), expected, atol=1e-5)
