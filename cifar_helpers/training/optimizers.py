"""What a network minimises, by which steps, and what compiles it for a phase."""

import importlib
import math
from typing import Any

from cifar_helpers import models
from cifar_helpers.backend import keras, on_tensorflow_cpu
from cifar_helpers.recipes import Phase

_OPTIMIZERS = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD"}
_SHORT_STEP = 5e8  # multiply-adds of the forward pass


def compile_for(
    model: keras.Model,
    phase: Phase,
    steps: int,
    label_smoothing: float = 0.0,
    *,
    teacher_share: float = 0.0,
    temperature: float = 1.0,
) -> None:
    """Compile a network for a phase, the fastest way on this device.

    Args:
        model: from `build`, or its upper part; compiled in place.
        phase: names the optimizer and its schedule.
        steps: optimizer steps an epoch.
        label_smoothing: share of the target spread evenly over the classes, in [0, 1).
        teacher_share: as of `Recipe`.
        temperature: as of `Recipe`.
    """
    loss: keras.losses.Loss = SmoothedCrossEntropy(label_smoothing)
    if teacher_share:
        loss = TaughtCrossEntropy(label_smoothing, teacher_share, temperature)
    short = phase.batch_size * models.multiply_adds(model) < _SHORT_STEP
    model.compile(
        optimizer=make_optimizer(phase, steps),
        loss=loss,
        metrics=[LabelAccuracy(name="accuracy"), LabelCrossEntropy(name="cross_entropy")],
        # XLA's CPU convolutions halve the speed of these networks.
        jit_compile=False if on_tensorflow_cpu() else "auto",
        # Between short steps Keras' own work in Python would take a tenth of an epoch. PyTorch
        # knows no steps together, and JAX warns of an epoch that is no multiple of them.
        steps_per_execution=16 if short and keras.backend.backend() == "tensorflow" else 1,
    )
    # With all variables there, TensorFlow traces the training step once; else twice, for seconds.
    model.optimizer.build(model.trainable_variables)


def make_optimizer(phase: Phase, steps: int) -> keras.optimizers.Optimizer:
    """A phase's optimizer, with its schedule over `steps` steps an epoch."""
    rate: float | WarmupDecay = phase.learning_rate
    if phase.warmup or phase.schedule != "constant":
        rate = WarmupDecay(phase.learning_rate, phase.epochs * steps, phase.warmup, phase.schedule)
    options: dict[str, Any] = {"learning_rate": rate}
    if phase.ema:
        options |= {"use_ema": True, "ema_momentum": phase.ema}
    if phase.weight_decay or phase.optimizer == "adamw":  # which has a default of its own
        options["weight_decay"] = phase.weight_decay
    if phase.optimizer == "sgd":
        options |= {"momentum": 0.9, "nesterov": True}
    optimizer = getattr(_optimizers(), _OPTIMIZERS[phase.optimizer])(**options)
    if phase.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _optimizers() -> Any:
    """Where the backend's optimizers are."""
    if keras.backend.backend() != "tensorflow":
        return keras.optimizers
    return importlib.import_module("cifar_helpers.training.fused")


@keras.saving.register_keras_serializable(package="cifar_helpers")
class SmoothedCrossEntropy(keras.losses.Loss):
    """Cross-entropy of integer labels, a share of the target spread evenly over the classes.

    Targets may hold more than the label, which comes first.
    """

    def __init__(self, label_smoothing: float = 0.0, name="smoothed_cross_entropy", **options):
        super().__init__(name=name, **options)
        self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        """The loss of each image, `(batch,)`."""
        labels = keras.ops.reshape(keras.ops.cast(_labels(y_true), "int32"), (-1,))
        targets = keras.ops.one_hot(labels, y_pred.shape[-1], dtype=y_pred.dtype)
        return keras.losses.categorical_crossentropy(
            targets, y_pred, label_smoothing=self.label_smoothing
        )

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


@keras.saving.register_keras_serializable(package="cifar_helpers")
class TaughtCrossEntropy(SmoothedCrossEntropy):
    """Cross-entropy of the labels, and of a teacher's probabilities at a temperature.

    Targets are `(batch, 1 + classes)`: the label, then the teacher's logits. Those that hold labels
    alone, as in validation, give the labels' part alone. The teacher's part is multiplied by the
    square of the temperature, so that its gradients keep their size.

    Reference: Hinton, Vinyals and Dean, arXiv:1503.02531, section 2.
    """

    def __init__(
        self,
        label_smoothing: float = 0.0,
        teacher_share: float = 0.5,
        temperature: float = 1.0,
        name="taught_cross_entropy",
        **options,
    ):
        super().__init__(label_smoothing, name=name, **options)
        self.teacher_share, self.temperature = teacher_share, temperature

    def call(self, y_true, y_pred):
        """The loss of each image, `(batch,)`."""
        own = super().call(y_true, y_pred)
        if not _holds_more(y_true):
            return own
        ops = keras.ops
        taught = ops.softmax(ops.cast(y_true[:, 1:], y_pred.dtype) / self.temperature)
        known = ops.log(ops.clip(y_pred, 1e-7, 1.0)) / self.temperature
        from_teacher = -ops.sum(taught * ops.log_softmax(known), axis=-1)
        scale = self.teacher_share * self.temperature**2
        return (1 - self.teacher_share) * own + scale * from_teacher

    def get_config(self):
        """The constructor's arguments."""
        own = {"teacher_share": self.teacher_share, "temperature": self.temperature}
        return {**super().get_config(), **own}


def _holds_more(y_true) -> bool:
    return len(y_true.shape) == 2 and y_true.shape[-1] != 1


def _labels(y_true):
    return y_true[:, 0] if _holds_more(y_true) else y_true


class LabelAccuracy(keras.metrics.SparseCategoricalAccuracy):
    """Share of right predictions, whatever targets hold besides labels."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Count a batch."""
        return super().update_state(_labels(y_true), y_pred, sample_weight)


class LabelCrossEntropy(keras.metrics.SparseCategoricalCrossentropy):
    """Cross-entropy of the labels, whatever targets hold besides."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Add a batch."""
        return super().update_state(_labels(y_true), y_pred, sample_weight)


@keras.saving.register_keras_serializable(package="cifar_helpers")
class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises linearly to its peak, and stays there or falls to zero at the end.

    Args:
        peak: the highest learning rate.
        steps: optimizer steps of the whole training.
        warmup: share of the steps that rise, in [0, 1).
        shape: "linear" or "cosine", the way down, or "constant".
    """

    def __init__(self, peak: float, steps: int, warmup: float = 0.0, shape: str = "linear"):
        if shape not in ("linear", "cosine", "constant"):
            raise ValueError(f'shape must be "linear", "cosine" or "constant"; received {shape!r}.')
        self.peak, self.steps, self.warmup, self.shape = peak, steps, warmup, shape

    def __call__(self, step):
        """The learning rate of the step, counted from 0."""
        step = keras.ops.cast(step, "float32")
        rising = max(1.0, self.warmup * self.steps)
        falling = max(1.0, self.steps - self.warmup * self.steps)
        left = keras.ops.clip((self.steps - step) / falling, 0.0, 1.0)
        if self.shape == "cosine":
            left = 0.5 - 0.5 * keras.ops.cos(math.pi * left)
        if self.shape == "constant":
            left = keras.ops.ones_like(step)
        rise = (step + 1.0) / rising if self.warmup else keras.ops.ones_like(step)
        return self.peak * keras.ops.minimum(rise, left)

    def get_config(self):
        """The constructor's arguments."""
        names = ("peak", "steps", "warmup", "shape")
        return {name: getattr(self, name) for name in names}
