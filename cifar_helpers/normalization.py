"""Batch normalisation through TensorFlow's fused operation, where there is one.

Stock Keras computes it from several operations, each a pass over memory, which on a CPU takes
ResNet-20 a third of its training time. Weights, configuration and numbers are those of
`keras.layers.BatchNormalization`; on other backends it is that layer.
"""

from cifar_helpers.quiet import keras


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
