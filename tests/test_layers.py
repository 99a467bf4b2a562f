import numpy as np
import pytest

from cifar_helpers.backend import keras
from cifar_helpers.models.layers import BatchNormalization, DepthwiseConv2D

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


def _depthwise_pair(kernel_size=5, **options):
    options |= {"padding": "same", "use_bias": False}
    return [kind(kernel_size, **options) for kind in (DepthwiseConv2D, _STOCK_DEPTHWISE)]


_STOCK_DEPTHWISE = keras.layers.DepthwiseConv2D


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("image", [(2, 2), (3, 3), (6, 6), (7, 5), (8, 8), (12, 12)])
def test_depthwise_outputs_and_gradients_are_the_stock_layers(image, strides):
    tf = pytest.importorskip("tensorflow")
    images = tf.random.stateless_normal((9, *image, 4), seed=(0, 1))
    layers = _depthwise_pair(strides=strides)
    found = []
    for layer in layers:
        layer.build(images.shape)
        layer.set_weights(layers[0].get_weights())
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = layer(images)
            loss = tf.reduce_sum(outputs**3)
        found.append([outputs, *tape.gradient(loss, [images, layer.kernel.value])])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * np.abs(other).max())


def test_depthwise_takes_the_other_way_where_it_is_faster(monkeypatch):
    pytest.importorskip("tensorflow")
    asked = []
    monkeypatch.setattr(
        "cifar_helpers.models.layers._depthwise", lambda *given: asked.append(given)
    )
    for kernel_size, size in ((5, 8), (5, 9), (3, 8)):
        layer, _ = _depthwise_pair(kernel_size)
        layer.build((1, size, size, 2))
        layer.call(keras.ops.ones((1, size, size, 2)))
    assert [given[0].shape[1] for given in asked] == [8]


def test_a_saved_depthwise_layer_comes_back(tmp_path):
    inputs = keras.Input((6, 6, 3))
    model = keras.Model(inputs, _depthwise_pair()[0](inputs))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert type(again.layers[1]) is DepthwiseConv2D
    images = np.random.default_rng(0).normal(size=(2, 6, 6, 3)).astype("float32")
    np.testing.assert_array_equal(*(each.predict(images, verbose=0) for each in (model, again)))
