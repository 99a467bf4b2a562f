"""What a network's layers see and learn: receptive fields, gradients, filters."""

import numpy as np

from cifar_helpers.backend import keras


def receptive_fields(model: keras.Model) -> list[tuple[str, int]]:
    """The receptive fields of a network's convolutions and poolings, in order.

    Each kernel widens the field by its reach, in steps of what lies between two of its inputs, and
    each stride widens that step (Araujo et al. 2019, https://distill.pub/2019/computing-receptive-fields).

    Args:
        model: whose layers follow one another, without branches.

    Returns:
        A layer's name and the side of the square of the image that one position of its output sees,
        in pixels.
    """
    side = step = 1
    fields = []
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            reach, stride = layer.kernel_size[0], layer.strides[0]
        elif isinstance(layer, keras.layers.MaxPooling2D):
            reach, stride = layer.pool_size[0], layer.strides[0]
        else:
            continue
        side += (reach - 1) * step
        step *= stride
        fields.append((layer.name, side))
    return fields


def gradient_norms(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """How strongly the loss of a batch depends on the kernel of each 3x3 convolution.

    A step of plain gradient descent with learning rate 1 changes each weight by its gradient, which
    so can be had from every backend. The weights are put back.

    Args:
        model: images in [0, 255] to probabilities; it is compiled.
        images: `(batch, 32, 32, 3)`.
        labels: int64 `(batch,)`.

    Returns:
        By layer, in order: the norm of the gradient as a share of the norm of the kernel.
    """
    kept = model.get_weights()
    layers = [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D) and layer.kernel_size == (3, 3)
    ]
    before = [keras.ops.convert_to_numpy(layer.kernel) for layer in layers]
    model.compile(keras.optimizers.SGD(1.0), "sparse_categorical_crossentropy", jit_compile=False)
    model.train_on_batch(images, labels)
    norms = {
        layer.name: float(
            np.linalg.norm(old - keras.ops.convert_to_numpy(layer.kernel)) / np.linalg.norm(old)
        )
        for layer, old in zip(layers, before, strict=True)
    }
    model.set_weights(kept)
    return norms


def first_layer(model: keras.Model, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The kernels of a network's first convolution, and its responses to an image.

    Args:
        model: images in [0, 255] to probabilities.
        image: uint8 `(height, width, 3)`.

    Returns:
        Kernels `(k, k, 3, filters)`, and responses `(h, w, filters)`.

    Raises:
        LookupError: if the network has no convolution.
    """
    layer = next((each for each in model.layers if isinstance(each, keras.layers.Conv2D)), None)
    if layer is None:
        raise LookupError(f"{model.name} has no convolution")
    responses = keras.Model(model.input, layer.output)(image[None].astype("float32"))
    return tuple(keras.ops.convert_to_numpy(each) for each in (layer.kernel, responses[0]))
