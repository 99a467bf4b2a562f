import importlib
import sys
import types
import zipfile

import numpy as np
import pytest

from cifar_helpers import models
from cifar_helpers.backend import keras

pytestmark = pytest.mark.usefixtures("untraced_module")
BUILDERS = {
    "baseline_cnn": (models.baseline_cnn, 315_722, 315_722),
    "vgg10": (models.vgg10, 402_986, 402_986),
    "resnet20": (models.resnet20, 274_826, 273_258),
    "transfer": (lambda: models.transfer("efficientnetv2b0", image_size=32), 6_255_962, 333_578),
}


@pytest.fixture(scope="module", params=BUILDERS)
def built(request):
    build, total, trainable = BUILDERS[request.param]
    return build(), total, trainable


def test_parameter_counts_are_those_of_the_reference(built):
    model, total, trainable = built
    assert models.parameter_counts(model) == {"total": total, "trainable": trainable}
    assert model.count_params() == total


def test_images_in_0_to_255_become_probabilities(built, images):
    model, _, _ = built
    from_bytes = model.predict(images, verbose=0)
    assert from_bytes.shape == (8, 10)
    assert from_bytes.dtype == np.float32
    np.testing.assert_allclose(from_bytes.sum(axis=1), 1, atol=1e-5)
    from_floats = model.predict(images.astype("float32"), verbose=0)
    np.testing.assert_allclose(from_bytes, from_floats, atol=1e-5)


def test_models_come_uncompiled_and_take_32_pixel_images(built):
    model, _, _ = built
    assert not model.compiled
    assert model.input.shape == (None, 32, 32, 3)


def test_layer_names_are_unique_and_given(built):
    model, _, _ = built
    names = [layer.name for layer in model.layers]
    assert len(set(names)) == len(names)
    assert not any(name.startswith(("conv2d", "dense_", "batch_normalization")) for name in names)


def test_a_saved_model_predicts_the_same(built, images, tmp_path):
    model, _, _ = built
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        loaded.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-6
    )


def test_a_model_saved_by_the_first_edition_loads(images, tmp_path):
    """Its layers were in a module `cifar_helpers.layers`, under the same registered names."""
    model = models.resnet20()
    model.save(tmp_path / "model.keras")
    with (
        zipfile.ZipFile(tmp_path / "model.keras") as source,
        zipfile.ZipFile(tmp_path / "first.keras", "w") as first,
    ):
        for name in source.namelist():
            content = source.read(name)
            if name == "config.json":
                assert b"cifar_helpers>BatchNormalization" in content
                content = content.replace(b"cifar_helpers.models.layers", b"cifar_helpers.layers")
            first.writestr(name, content)
    loaded = keras.models.load_model(tmp_path / "first.keras")
    np.testing.assert_allclose(
        loaded.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-6
    )


@pytest.mark.parametrize("name", models.MODELS)
def test_every_network_takes_the_number_of_classes(name):
    options = {"weights": "efficientnet-lite0", "image_size": 32} if name == "transfer" else {}
    assert getattr(models, name)(classes=7, **options).output.shape == (None, 7)


def test_a_network_is_exported_whose_entry_is_in_the_table(monkeypatch):
    module = types.ModuleType("fifth_network")
    module.tiny = lambda *, classes: f"{classes} classes"
    monkeypatch.setitem(sys.modules, "fifth_network", module)
    entry = models.Model("tiny", "Tiny", "#000000", "fifth_network:tiny", "06_tiny")
    monkeypatch.setitem(models.MODELS, "tiny", entry)
    assert models.tiny(classes=3) == "3 classes"
    assert models.model_label("tiny") == "Tiny"


def test_importing_a_networks_module_does_not_hide_its_builder():
    for name in models.MODELS:
        module = importlib.import_module(f"cifar_helpers.models.{name}")
        assert getattr(models, name) is getattr(module, name)


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="no attribute 'resnet50'"):
        models.resnet50()


@pytest.mark.parametrize(
    ("name", "millions"), [("baseline_cnn", 4.2), ("vgg10", 29.5), ("resnet20", 40.8)]
)
def test_multiply_adds_count_convolutions_and_dense_layers(name, millions):
    assert models.multiply_adds(BUILDERS[name][0]()) / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize(
    ("backbone", "size", "millions"),
    [("efficientnetv2b0", 96, 132), ("efficientnet-lite0", 96, 70)],
)
def test_multiply_adds_of_the_backbones(backbone, size, millions):
    model = models.transfer(backbone, image_size=size)
    assert models.multiply_adds(model) / 1e6 == pytest.approx(millions, rel=0.03)


def test_multiply_adds_of_a_network_counted_by_hand():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, padding="same")(inputs)  # 64 positions x 27 x 4
    x = keras.layers.DepthwiseConv2D(3, strides=2, padding="same")(x)  # 16 positions x 9 x 4
    x = keras.layers.Dense(5)(keras.layers.Flatten()(x))  # 64 x 5
    assert models.multiply_adds(keras.Model(inputs, x)) == 64 * 27 * 4 + 16 * 9 * 4 + 64 * 5


@pytest.fixture(scope="module", params=["efficientnetv2b0", "efficientnet-lite0"])
def transfer(request):
    return models.transfer(request.param, image_size=32)


def test_fine_tuning_trains_as_many_weights_as_the_reference():
    model = models.transfer("efficientnetv2b0", image_size=32)
    for layers, trainable in ((0, 333_578), (30, 1_497_450), (50, 2_290_458), (None, 6_192_282)):
        models.fine_tune(model, layers=layers)
        assert models.parameter_counts(model)["trainable"] == trainable


def test_fine_tuning_all_layers_leaves_only_statistics_frozen(transfer):
    model = transfer
    models.fine_tune(model, layers=None)
    frozen = {weight.name for weight in model.non_trainable_weights}
    assert frozen == {"moving_mean", "moving_variance"}


def test_fine_tuning_more_layers_than_there_are_unfreezes_all(transfer):
    model = transfer
    models.fine_tune(model, layers=10_000)
    assert all(layer.trainable for layer in models.backbone_layers(model))


@pytest.mark.parametrize("layers", [0, 30, 50])
def test_the_two_parts_of_a_split_make_the_whole_network(transfer, layers, images):
    model = transfer
    models.fine_tune(model, layers=layers)
    trunk, tail = models.split(model)
    activations = trunk.predict(images, verbose=0)
    assert not trunk.trainable_weights
    assert len(tail.trainable_weights) == len(model.trainable_weights)
    np.testing.assert_allclose(
        tail.predict(activations, verbose=0), model.predict(images, verbose=0), atol=1e-5
    )


def test_a_network_with_its_frozen_part_folded_trains_the_same_layers(transfer, images):
    model = transfer
    models.fine_tune(model, layers=30)
    folded = models.fold_frozen(model)
    assert folded.trainable_variables == model.trainable_variables
    assert folded.count_params() < model.count_params()  # a batch norm has four, a bias is one
    assert models.multiply_adds(folded) == models.multiply_adds(model)
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(folded.predict(images, verbose=0), expected, atol=1e-5)


def test_a_network_without_a_frozen_part_is_not_folded(transfer):
    model = transfer
    models.fine_tune(model, layers=None)
    assert models.fold_frozen(model) is model


def test_a_frozen_backbone_is_cut_at_its_pooled_features(transfer):
    models.fine_tune(transfer, layers=0)
    trunk, _ = models.split(transfer)
    assert trunk.output.shape == (None, 1280)


def test_a_network_that_trains_from_its_first_layer_cannot_be_split(transfer):
    model = transfer
    models.fine_tune(model, layers=None)
    with pytest.raises(ValueError, match="frozen part"):
        models.split(model)


def test_stages_account_for_every_weight(built):
    model, total, _ = built
    stages = models.stages(model)
    assert sum(stage["parameters"] for stage in stages) == total
    assert sum(stage["multiply_adds"] for stage in stages) == models.multiply_adds(model)


@pytest.mark.parametrize(
    ("shortcuts", "skips"),
    [(True, [("identity",) * 3, *[("projection", "identity", "identity")] * 2]), (False, [()] * 3)],
)
def test_stages_tell_the_skip_connections_of_resnet20(shortcuts, skips):
    stages = models.stages(models.resnet20(shortcuts=shortcuts))
    assert [stage["skips"] for stage in stages if stage["name"].startswith("stage")] == skips


def test_a_skip_connection_that_pools_and_pads_is_told_from_a_projection():
    images = keras.Input((8, 8, 4))
    skip = keras.layers.Concatenate(name="block1_pad")(
        [keras.layers.AveragePooling2D(2)(images)] * 2
    )
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", name="block1_conv")(images)
    x = keras.layers.Add(name="block1_add")([skip, x])
    stages = models.stages(keras.Model(images, x))
    assert [stage["skips"] for stage in stages if stage["name"] == "block1"] == [("padded",)]


def test_stages_of_a_transfer_model_are_frozen_up_to_the_head(transfer):
    model = transfer
    models.fine_tune(model, layers=0)
    stages = models.stages(model)
    assert {stage["name"] for stage in stages if not stage["frozen"]} == {
        "images",
        "resize",
        "head",
    }
    models.fine_tune(model, layers=None)
    assert not any(stage["frozen"] for stage in models.stages(model))


def test_stages_of_resnet20_halve_the_resolution_twice():
    shapes = {stage["name"]: stage["output_shape"] for stage in models.stages(models.resnet20())}
    assert shapes["stage1"] == (32, 32, 16)
    assert shapes["stage2"] == (16, 16, 32)
    assert shapes["stage3"] == (8, 8, 64)
