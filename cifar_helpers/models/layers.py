"""Keras layers that compute faster with TensorFlow on a CPU; elsewhere they are the stock layers.

Weights, configuration and numbers are the stock layers'. Batch normalisation goes through
TensorFlow's fused operation: stock Keras computes it from several operations, each a pass over
memory, which takes ResNet-20 a third of its training time. Depthwise convolution gets its kernel's
gradient from matrix products: TensorFlow's own takes half of the time of fine-tuning the last
layers of EfficientNet-Lite0.
"""

from functools import lru_cache

import numpy as np

from cifar_helpers.backend import keras, on_tensorflow_cpu


class _Fused(keras.layers.BatchNormalization):
    """What the two layers share: when the fused operation fits, and the call to it."""

    def _fits(self, inputs, mask) -> bool:
        return (
            keras.backend.backend() == "tensorflow"
            and mask is None
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and self.center
            and self.scale
            and not getattr(self, "renorm", False)  # since Keras 3.13
            and not self.synchronized
            and self.variable_dtype == "float32"
        )

    def _normalize(self, inputs, **options):
        from tensorflow.compat.v1.nn import fused_batch_norm

        return fused_batch_norm(
            inputs, scale=self.gamma, offset=self.beta, epsilon=self.epsilon, **options
        )

    def _by_moving_statistics(self, inputs):
        outputs, _, _ = self._normalize(
            inputs, mean=self.moving_mean, variance=self.moving_variance, is_training=False
        )
        return outputs


@keras.saving.register_keras_serializable(package="cifar_helpers")
class BatchNormalization(_Fused):
    """`keras.layers.BatchNormalization`, faster on TensorFlow for images, channels last."""

    def call(self, inputs, training=None, mask=None):
        """Normalise by the batch's statistics in training, else by the moving ones."""
        if not self._fits(inputs, mask):
            return super().call(inputs, training=training, mask=mask)
        if not (training and self.trainable):
            return self._by_moving_statistics(inputs)
        outputs, mean, variance = self._normalize(inputs, is_training=True)
        # The operation estimates the variance of what the batch was drawn from; Keras keeps the
        # variance of the batch itself.
        count = keras.ops.cast(keras.ops.size(inputs) // inputs.shape[-1], variance.dtype)
        variance = variance * ((count - 1) / count)
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1 - self.momentum))
        return outputs


@keras.saving.register_keras_serializable(package="cifar_helpers")
class InferenceBatchNormalization(_Fused):
    """Batch normalisation that always uses its moving statistics, in `fit` too.

    Scale and offset (gamma and beta) are trained as long as the layer is trainable.
    """

    def call(self, inputs, training=None, mask=None):
        """Normalise by the moving statistics, whatever `training` says."""
        if self._fits(inputs, mask):
            return self._by_moving_statistics(inputs)
        return super().call(inputs, training=False, mask=mask)


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
            and None not in (height, width)
            and height * width <= 64
            and self.kernel_size == (5, 5)
            and self.depth_multiplier == 1
            and self.padding == "same"
            and self.data_format == "channels_last"
            and self.strides[0] == self.strides[1]
            and self.dilation_rate == (1, 1)
            and not self.use_bias
            and self.activation is keras.activations.linear
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

    taps = _taps(tuple(inputs.shape[1:3]), tuple(kernel_shape[:2]), stride)
    channels = inputs.shape[-1]
    positions = tf.transpose(tf.reshape(inputs, (-1, inputs.shape[1] * inputs.shape[2], channels)))
    outputs = tf.reshape(upstream, (-1, upstream.shape[1] * upstream.shape[2], channels))
    products = tf.matmul(tf.transpose(outputs, (2, 1, 0)), positions, transpose_b=True)
    gradient = tf.matmul(tf.reshape(products, (channels, -1)), taps)
    return tf.reshape(tf.transpose(gradient), kernel_shape)


@lru_cache
def _taps(image: tuple[int, int], kernel: tuple[int, int], stride: int) -> np.ndarray:
    """Which kernel weight joins which output and input position.

    Returns:
        float32 `(outputs * inputs, kernel height * width)`, 1 where it does, 0 elsewhere.
    """
    along = [_taps_along(size, reach, stride) for size, reach in zip(image, kernel, strict=True)]
    taps = np.einsum("pqi,rsj->prqsij", *along)
    return taps.reshape(-1, kernel[0] * kernel[1])


def _taps_along(size: int, kernel: int, stride: int) -> np.ndarray:
    """The same along one axis: float32 `(outputs, inputs, kernel)`."""
    outputs = -(-size // stride)
    before = max((outputs - 1) * stride + kernel - size, 0) // 2  # TensorFlow's "same"
    output, position, tap = np.ogrid[:outputs, :size, :kernel]
    return (output * stride - before + tap == position).astype("float32")
