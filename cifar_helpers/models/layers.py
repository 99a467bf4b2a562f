"""What the networks are built from: their first and last layers, and two kinds of faster layers.

The faster ones have the stock layers' weights, configuration and numbers, and but for TensorFlow on
a CPU they are the stock layers. Batch normalisation goes through TensorFlow's fused operation:
stock Keras computes it from several, each a pass over memory, which takes ResNet-20 a third of its
training time. Depthwise convolution gets its kernel's gradient from matrix products: TensorFlow's
own makes a step of fine-tuning EfficientNet-Lite0 take 1.3 times as long.
"""

from collections import Counter
from functools import lru_cache

import numpy as np

from cifar_helpers.backend import keras, on_tensorflow_cpu

IMAGE_SHAPE = (32, 32, 3)
CLASSES = 10


def image_input() -> keras.KerasTensor:
    """Images `(batch, 32, 32, 3)`, uint8 or float in [0, 255]: what every network starts from."""
    return keras.layers.Input(IMAGE_SHAPE, name="images")


def rescale(images: keras.KerasTensor, centred: bool) -> keras.KerasTensor:
    """Bring pixels to about zero mean and unit variance if `centred`, else to [0, 1]."""
    # CIFAR-10's pixels have mean 121 and standard deviation 64.
    scale, offset = (1 / 64, -121 / 64) if centred else (1 / 255, 0.0)
    return keras.layers.Rescaling(scale, offset=offset, name="rescale")(images)


def classifier(x: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    """Class probabilities `(batch, classes)`, float32: what every network ends in."""
    # float32 whatever the compute precision: a bfloat16 softmax has three significant digits.
    softmax = keras.layers.Dense(classes, activation="softmax", dtype="float32", name="predictions")
    return softmax(x)


def is_head(layer: keras.Layer) -> bool:
    """Whether a layer stands between the feature map and the probabilities, by its name."""
    return layer.name.startswith("head_") or layer.name == "predictions"


@keras.saving.register_keras_serializable(package="cifar_helpers")
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization`, faster on TensorFlow for images, channels last."""

    def call(self, inputs, training=None, mask=None):
        """Normalise by the batch's statistics in training, else by the moving ones."""
        if not self._fits(inputs, mask):
            return super().call(inputs, training=training, mask=mask)
        from tensorflow.compat.v1.nn import fused_batch_norm

        options = {"scale": self.gamma, "offset": self.beta, "epsilon": self.epsilon}
        if not (training and self.trainable):
            options |= {"mean": self.moving_mean, "variance": self.moving_variance}
            return fused_batch_norm(inputs, is_training=False, **options)[0]
        outputs, mean, variance = fused_batch_norm(inputs, is_training=True, **options)
        # The operation estimates the variance of what the batch was drawn from; Keras keeps the
        # variance of the batch itself.
        count = keras.ops.cast(keras.ops.size(inputs) // inputs.shape[-1], variance.dtype)
        variance = variance * ((count - 1) / count)
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1 - self.momentum))
        return outputs

    def _fits(self, inputs, mask) -> bool:
        """Whether the fused operation computes this."""
        return (
            keras.backend.backend() == "tensorflow"
            and mask is None
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and (self.center, self.scale, self.synchronized) == (True, True, False)
            and not getattr(self, "renorm", False)  # since Keras 3.13
            and self.variable_dtype == "float32"
        )


@keras.saving.register_keras_serializable(package="cifar_helpers")
class InferenceBatchNormalization(BatchNormalization):
    """Batch normalisation that uses its moving statistics, in `fit` too, unless it `follows`.

    Scale and offset (gamma and beta) are trained as long as the layer is trainable.
    """

    gathers = False  # whether it takes on the statistics of what it sees; see `standardize`
    follows = False  # whether it trains as the stock layer does; see `follow_batches`

    def call(self, inputs, training=None, mask=None):
        """Normalise by the moving statistics, whatever `training` says, unless it `follows`."""
        if self.gathers:
            mean, variance = keras.ops.moments(inputs, axes=list(range(inputs.ndim - 1)))
            self.moving_mean.assign(mean)
            self.moving_variance.assign(variance)
        return super().call(inputs, training=training and self.follows, mask=mask)


@keras.saving.register_keras_serializable(package="cifar_helpers")
class DepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D`, its 5x5 kernels trained faster on small images."""

    def call(self, inputs):
        """Convolve each channel with its own kernel."""
        if not self._is_worth_it(inputs):
            return super().call(inputs)
        return _depthwise(inputs, self.kernel, self.strides[0])

    def _is_worth_it(self, inputs) -> bool:
        """Whether matrix products are faster: up to 8x8 pixels under a 5x5 kernel, as measured."""
        height, width = inputs.shape[1:3]
        return (
            on_tensorflow_cpu()
            and height in range(1, 9)
            and height == width
            and self.kernel_size == (5, 5)
            and self.strides[0] == self.strides[1]
            and (self.padding, self.data_format) == ("same", "channels_last")
            and (self.depth_multiplier, self.dilation_rate) == (1, (1, 1))
            and (self.use_bias, self.activation) == (False, keras.activations.linear)
            and self.compute_dtype == "float32"
        )


def _depthwise(inputs, kernel, stride: int):
    """TensorFlow's depthwise convolution, "same", with another way to its kernel's gradient."""
    import tensorflow as tf

    options = {"strides": (1, stride, stride, 1), "padding": "SAME"}

    @tf.custom_gradient
    def convolve(inputs, kernel):
        def gradients(upstream):
            to_inputs = tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
                input_sizes=tf.shape(inputs), filter=kernel, out_backprop=upstream, **options
            )
            return to_inputs, _kernel_gradient(inputs, upstream, kernel.shape, stride)

        return tf.nn.depthwise_conv2d(inputs, kernel, **options), gradients

    return convolve(inputs, tf.identity(kernel))  # the value, not the variable


def _kernel_gradient(inputs, upstream, kernel_shape, stride: int):
    """Each channel's products of all output with all input positions, summed by their distance."""
    import tensorflow as tf

    taps = _taps(inputs.shape[1], kernel_shape[0], stride)
    channels = inputs.shape[-1]
    positions = tf.transpose(tf.reshape(inputs, (-1, inputs.shape[1] ** 2, channels)))
    outputs = tf.reshape(upstream, (-1, upstream.shape[1] ** 2, channels))
    products = tf.matmul(tf.transpose(outputs, (2, 1, 0)), positions, transpose_b=True)
    gradient = tf.matmul(tf.reshape(products, (channels, -1)), taps)
    return tf.reshape(tf.transpose(gradient), kernel_shape)


@lru_cache
def _taps(size: int, kernel: int, stride: int) -> np.ndarray:
    """Which weight of a square kernel joins which output and input position of a square image.

    Returns:
        float32 `(outputs * inputs, kernel ** 2)`, 1 where it does, 0 elsewhere.
    """
    outputs = -(-size // stride)
    before = max((outputs - 1) * stride + kernel - size, 0) // 2  # TensorFlow's "same"
    output, position, tap = np.ogrid[:outputs, :size, :kernel]
    along = (output * stride - before + tap == position).astype("float32")
    return np.einsum("pri,qsj->pqrsij", along, along).reshape(-1, kernel**2)


def rebuild(model: keras.Model, inputs: keras.KerasTensor) -> keras.KerasTensor:
    """Copy a network onto `inputs`, layer by layer, for inference and fine-tuning.

    Layers keep their order, names and weights; those that scale the input are named for that. Batch
    norms become `InferenceBatchNormalization`, and nothing is dropped.
    """
    # `keras.models.clone_model` would give the layers a second node in a graph of their own, and
    # `layer.output` would then name the wrong tensor.
    tensors = {id(model.input): inputs}
    for layer in model.layers[1:]:
        copy, source = _for_inference(layer), layer.input
        if isinstance(source, list):
            outputs = copy([tensors[id(tensor)] for tensor in source])
        else:
            outputs = copy(tensors[id(source)])
        copy.set_weights(layer.get_weights())
        tensors[id(layer.output)] = outputs
    return tensors[id(model.output)]


def fold_norms(model: keras.Model) -> keras.Model:
    """A frozen copy of a network for inference, its batch norms folded into the convolutions.

    A convolution followed by a batch norm in inference mode is a convolution with other weights and
    a bias. The numbers agree as far as rounding allows.

    Args:
        model: with convolutions and `InferenceBatchNormalization`, as `rebuild` makes it.
    """
    reads = [tensor for layer in model.layers[1:] for tensor in keras.tree.flatten(layer.input)]
    readers = Counter(id(tensor) for tensor in reads)
    inputs = keras.layers.Input(model.input.shape[1:], dtype=model.input.dtype)
    tensors = {id(model.input): inputs}
    convolutions: dict[int, keras.Layer] = {}
    for layer in model.layers[1:]:
        if isinstance(layer, InferenceBatchNormalization) and id(layer.input) in convolutions:
            tensors[id(layer.output)] = _folded(convolutions[id(layer.input)], layer, tensors)
            continue
        if _is_foldable(layer) and readers[id(layer.output)] == 1:
            convolutions[id(layer.output)] = layer
        copy = type(layer).from_config(layer.get_config())
        tensors[id(layer.output)] = copy(
            keras.tree.map_structure(lambda tensor: tensors[id(tensor)], layer.input)
        )
        copy.set_weights(layer.get_weights())
    folded = keras.Model(inputs, tensors[id(model.output)], name=model.name)
    folded.trainable = False
    return folded


def _is_foldable(layer: keras.Layer) -> bool:
    """Whether it is a convolution and nothing else."""
    kinds = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
    plain = isinstance(layer, kinds) and not layer.use_bias
    return plain and layer.activation is keras.activations.linear


def _folded(convolution: keras.Layer, norm: keras.Layer, tensors: dict) -> keras.KerasTensor:
    """The outputs of a convolution with a bias, that computes what the two do."""
    gamma, beta, mean, variance = norm.get_weights()
    scale = gamma / np.sqrt(variance + norm.epsilon)
    copy = type(convolution).from_config({**convolution.get_config(), "use_bias": True})
    outputs = copy(tensors[id(convolution.input)])
    depthwise = isinstance(convolution, keras.layers.DepthwiseConv2D)
    kernel = convolution.get_weights()[0] * (scale[:, np.newaxis] if depthwise else scale)
    copy.set_weights([kernel, beta - mean * scale])
    return outputs


def _for_inference(layer: keras.Layer) -> keras.Layer:
    kind, config = type(layer), layer.get_config()
    if isinstance(layer, keras.layers.BatchNormalization):
        kind = InferenceBatchNormalization
    elif isinstance(layer, keras.layers.Dropout):
        config["rate"] = 0.0
    elif isinstance(layer, keras.layers.Rescaling):
        config["name"] = "rescale"
    elif isinstance(layer, keras.layers.Normalization):
        config["name"] = "rescale_normalize"
    return kind.from_config(config)


def standardize(model: keras.Model, images: np.ndarray) -> None:
    """Give batch norms that keep their statistics those of some images, from the first to the last.

    With random weights and the statistics that layers begin with, the signal dies out on its way up.

    Args:
        model: images in [0, 255] to probabilities.
        images: uint8 `(n, 32, 32, 3)`, a hundred or so.
    """
    norms = _inference_norms(model)
    for layer in norms:
        layer.gathers = True
    model(images.astype("float32"))
    for layer in norms:
        layer.gathers = False


def follow_batches(model: keras.Model) -> None:
    """Let batch norms that keep their statistics take those of each batch, where they are trainable.

    Statistics of random weights do not fit for long once the weights change: kept as they are, a
    backbone that has learned nothing stays at chance.
    """
    for layer in _inference_norms(model):
        layer.follows = True


def _inference_norms(model: keras.Model) -> list[InferenceBatchNormalization]:
    return [each for each in model.layers if isinstance(each, InferenceBatchNormalization)]
