"""Where a network looks, and which training images it finds most like a test image."""

from dataclasses import replace

import numpy as np
import pytest
from tiny_training import BACKBONE, TRANSFER, find_backbone

from cifar_helpers import models, recipes, results, training
from cifar_helpers.backend import keras
from cifar_helpers.training import explained


@pytest.fixture(scope="module")
def run(toy_splits, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.BACKBONES, "tiny", BACKBONE)
        recipe = replace(TRANSFER.capped(1), explained=True)
        out = str(tmp_path_factory.mktemp("run"))
        options = {"out": out, "precision": "float32", "verbose": False, "seed": 0}
        trained = training.train(recipe, toy_splits, weights=find_backbone(""), **options)
    (found,) = results.load_results(out)
    return trained, found.arrays


def test_heat_maps_are_kept_of_the_first_images_of_each_class(run):
    trained, arrays = run
    labels = trained.splits.test.labels
    assert arrays["heat_maps"].shape[0] == len(arrays["heat_map_images"]) == 40
    assert np.bincount(labels[arrays["heat_map_images"]]).tolist() == [4] * 10
    assert set(np.round(arrays["heat_maps"].max(axis=(1, 2)), 3)) <= {0.0, 1.0}


def test_the_nearest_images_are_those_of_the_smallest_angle(run):
    trained, arrays = run
    splits, model = trained.splits, trained.model
    network = keras.Model(model.input, model.get_layer("head_pool").output)
    train, test = (
        training.predict(network, each.images) for each in (splits.train, splits.test.take([0, 7]))
    )
    cosine = (test @ train.T) / np.outer(*(np.linalg.norm(each, axis=1) for each in (test, train)))
    for place, row in zip((0, 7), cosine, strict=True):
        nearest = arrays["nearest"][place]
        assert set(nearest) <= set(splits.train_indices)
        found = row[np.searchsorted(splits.train_indices, nearest)]
        np.testing.assert_allclose(found, np.sort(row)[::-1][:3], atol=1e-5)


@pytest.mark.parametrize("head", ["pool", "flatten"])
def test_a_heat_map_is_where_the_class_comes_from(head):
    """A network whose only class score is the brightness of the picture, whose lower right is lit."""
    images = keras.layers.Input((32, 32, 3), name="images")
    x = keras.layers.AveragePooling2D(16, name="quarters")(images)
    x = keras.layers.Rescaling(1 / 255)(x)
    kind = {"pool": keras.layers.GlobalAveragePooling2D, "flatten": keras.layers.Flatten}[head]
    x = kind(name=f"head_{head}")(x)
    inputs = x.shape[-1]
    x = keras.layers.Dense(2, activation="softmax", name="predictions")(x)
    model = keras.Model(images, x)
    model.get_layer("predictions").set_weights([np.array([[1.0, 0]] * inputs), np.zeros(2)])
    picture = np.zeros((1, 32, 32, 3), "uint8")
    picture[:, 16:, 16:] = 255
    np.testing.assert_allclose(explained.grad_cam(model, picture)[0], [[0, 0], [0, 1]], atol=1e-6)


def test_a_heat_map_is_where_one_region_alone_decides():
    """The score is the brightness of the upper left quarter, in a picture that is lit all over."""
    images = keras.layers.Input((32, 32, 3), name="images")
    x = keras.layers.AveragePooling2D(16, name="quarters")(images)
    x = keras.layers.Flatten(name="head_flatten")(x)
    x = keras.layers.Dense(2, activation="softmax", name="predictions")(x)
    model = keras.Model(images, x)
    weights = np.zeros((12, 2))
    weights[:3, 0] = 1 / 255
    model.get_layer("predictions").set_weights([weights, np.zeros(2)])
    heat = explained.grad_cam(model, np.full((1, 32, 32, 3), 200, "uint8"))[0]
    np.testing.assert_allclose(heat, [[1, 0], [0, 0]], atol=1e-6)


def test_behind_average_pooling_a_heat_map_is_grad_cams(images):
    """There the gradients are the dense layer's weights: they weigh the maps (CAM)."""
    inputs = keras.layers.Input((32, 32, 3), name="images")
    x = keras.layers.Conv2D(4, 3, strides=4, activation="relu", name="conv")(inputs)
    maps = keras.Model(inputs, x)
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(x)
    last = keras.layers.Dense(3, activation="softmax", name="predictions")
    model = keras.Model(inputs, last(x))
    predicted = training.predict(model, images).argmax(axis=1)
    weights = np.asarray(last.kernel).T[predicted]
    expected = np.maximum(np.einsum("nhwc,nc->nhw", training.predict(maps, images), weights), 0)
    strongest = np.maximum(expected.max(axis=(1, 2), keepdims=True), 1e-12)
    np.testing.assert_allclose(explained.grad_cam(model, images), expected / strongest, atol=1e-4)


def test_rows_of_transfer_learning_are_explained_unless_they_are_cut_short():
    rows = recipes.select("transfer", list(recipes.DEFAULT))
    assert all(row.explained and not row.capped(5).explained for row in rows)
    assert not any(row.explained for row in recipes.ABLATIONS)
