"""Where a network looks, and which images it finds alike, also where it is not kept."""

import os

import numpy as np

from cifar_helpers import metrics
from cifar_helpers.backend import keras
from cifar_helpers.models import layers
from cifar_helpers.results import Result
from cifar_helpers.training.feeding import predict
from cifar_helpers.training.records import network_of
from cifar_helpers.training.runs import Run

MAPS_OF_A_CLASS = 4  # test images with a heat map
NEIGHBOURS = 3


def heat_maps(
    result: Result, images: np.ndarray, out: str | os.PathLike = "", *, count: int = 4
) -> dict[int, np.ndarray]:
    """Grad-CAM maps of some test images, by a record's network or as they are kept beside the record.

    Where the network is at hand, in the run's folder or beside the published record, and gives the
    record's probabilities, they are those of the images that `metrics.examples` chooses.

    Args:
        result: of the training.
        images: all its test images, uint8 `(n, 32, 32, 3)`.
        out: the run's folder; "" for none.
        count: of each group of examples.

    Returns:
        By the position of the image, float32 `(height, width)` in [0, 1], of the size of the last
        feature map. Empty where there is neither network nor map, or no TensorFlow to compute one.

    Raises:
        UserError: if the network's file cannot be read.
    """
    on_tensorflow = keras.backend.backend() == "tensorflow"
    model = network_of(result, out) if on_tensorflow else None
    if model is not None:
        groups = metrics.examples(result.labels, result.probabilities, count)
        positions = np.concatenate(list(groups.values()))
        maps = grad_cam(model, images[positions])
    elif "heat_maps" in result.arrays:
        positions, maps = result.arrays["heat_map_images"], result.arrays["heat_maps"]
    else:
        return {}
    return dict(zip(positions.tolist(), maps, strict=True))


def explain(run: Run) -> dict[str, np.ndarray]:
    """Heat maps of some test images, and the training images nearest to each test image.

    Args:
        run: of a network on a backbone, with its model.

    Returns:
        `heat_maps`, as of `grad_cam`, of the test images `heat_map_images`, int64, the first ones of
        each class (with TensorFlow alone); and `nearest`, int64 `(test images, 3)`: positions, in the
        data set's order of training images, of those whose features have the smallest angle to the
        test image's, the nearest first.
    """
    from sklearn.neighbors import NearestNeighbors  # half a second that few trainings need

    splits, found = run.splits, {}
    if keras.backend.backend() == "tensorflow":
        labels = splits.test.labels
        chosen = [np.flatnonzero(labels == each)[:MAPS_OF_A_CLASS] for each in np.unique(labels)]
        found["heat_map_images"] = np.concatenate(chosen)
        found["heat_maps"] = grad_cam(run.model, splits.test.images[found["heat_map_images"]])
    features = keras.Model(run.model.input, run.model.get_layer("head_pool").output)
    search = NearestNeighbors(n_neighbors=NEIGHBOURS, metric="cosine", algorithm="brute")
    search.fit(predict(features, splits.train.images))
    places = search.kneighbors(predict(features, splits.test.images), return_distance=False)
    return found | {"nearest": splits.train_indices[places]}


def grad_cam(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Which parts of its last feature map a network's most probable class rests on.

    Behind average pooling this is Grad-CAM. Its mean of the gradients over the map is left out
    (HiResCAM): there they are alike anyhow, while behind a flatten layer each place has weights of
    its own, and only their own gradients tell which places count.

    References: Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via
    Gradient-based Localization", arXiv:1610.02391, ICCV 2017; Draelos and Carin, "Use HiResCAM
    instead of Grad-CAM for faithful explanations of convolutional neural networks",
    arXiv:2011.08891, 2020.

    Args:
        model: with a head, the first layer of which takes the feature map, and a layer `predictions`.
        images: uint8 `(n, 32, 32, 3)`.

    Returns:
        float32 `(n, height, width)`, of the feature map's size, in [0, 1]: 1 at the strongest place
        of each image; all 0 where nothing speaks for the class.
    """
    import tensorflow as tf

    head, last = next(filter(layers.is_head, model.layers)), model.get_layer("predictions")
    below = keras.Model(model.input, head.input)
    above = keras.Model(head.input, last.input)
    maps = tf.convert_to_tensor(below.predict(images, verbose=0, batch_size=32))
    with tf.GradientTape() as tape:
        tape.watch(maps)
        # The scores before the softmax, whose sum over images has each image's own gradient.
        scores = tf.cast(above(maps, training=False), "float32") @ last.kernel + last.bias
        total = tf.reduce_sum(tf.reduce_max(scores, axis=1))
    shares = tf.reduce_sum(maps * tape.gradient(total, maps), axis=-1)
    heat = np.maximum(np.asarray(shares, "float32"), 0)
    strongest = heat.max(axis=(1, 2), keepdims=True)
    return np.divide(heat, strongest, out=np.zeros_like(heat), where=strongest > 0)
