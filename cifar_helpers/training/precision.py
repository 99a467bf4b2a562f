"""The number format that a network computes in."""

import statistics
import time
from collections.abc import Callable
from functools import cache, partial

import numpy as np

from cifar_helpers import hardware, models, recipes
from cifar_helpers.backend import on_tensorflow_cpu
from cifar_helpers.cache import cached
from cifar_helpers.errors import UserError
from cifar_helpers.recipes import PRECISIONS
from cifar_helpers.text import listed
from cifar_helpers.training.networks import build
from cifar_helpers.training.optimizers import compile_for

_MARGIN = 1.05  # bfloat16 has to be so many times as fast
_CLEARLY = 1.5  # so many times as fast, and nothing more needs to be timed
_ROUNDS = 9
_ROUND = 0.1  # seconds of the slower one's steps, at the least one


def fastest_precision(model: str) -> str:
    """The policy that a model trains fastest by on this machine: "float32" or "mixed_bfloat16".

    It is measured, since no processor flag tells: a few training steps both ways, which takes some
    seconds, once; the cache keeps what was found for a processor, its cores and the versions.
    bfloat16 has to be 1.05 times as fast. It is not tried with accelerators, other backends than
    TensorFlow, and models whose table entry says so: there it is "float32".

    Args:
        model: one of `models.MODELS`.
    """
    if not models.MODELS[model].may_use_bfloat16 or not on_tensorflow_cpu():
        return "float32"
    return "mixed_bfloat16" if _speedup(model) >= _MARGIN else "float32"


def policies(model: str, precision: str) -> list[str]:
    """Keras' policies that a precision stands for, the one to begin a training with first.

    "auto" stands for either, the faster one first.

    Raises:
        UserError: for another precision.
    """
    if precision == "auto":
        fastest = fastest_precision(model)
        return [fastest, *(policy for policy in PRECISIONS.values() if policy != fastest)]
    if precision not in PRECISIONS:
        raise UserError(
            f"precision must be one of auto, {listed(PRECISIONS)}; received {precision!r}."
        )
    return [PRECISIONS[precision]]


@cache
def _speedup(model: str) -> float:
    """How many times as fast training is in bfloat16 as in float32, measured or from the cache."""
    key = {
        "speedup of bfloat16": model,
        "processor": hardware.processor_details(),
        "threads": hardware.threads(),
        "versions": hardware.versions(),
    }
    return float(cached(key, lambda: np.array(_measure(model))))


def _measure(model: str) -> float:
    speedup = _convolution_speedup()
    if speedup > 1 / _CLEARLY:
        speedup = _compare(*(_training_step(model, policy) for policy in PRECISIONS.values()))
    return speedup


@cache
def _convolution_speedup() -> float:
    """Where bfloat16 is emulated, a single convolution is many times slower and tells as much."""
    return _compare(*(_convolution(kind) for kind in PRECISIONS))


def _compare(float32: Callable[[], object], bfloat16: Callable[[], object]) -> float:
    """How many times as fast the second is: the median of the ratios of rounds in turn."""
    for step in (float32, bfloat16):
        step()  # compiles
    ratios: list[float] = []
    steps = max(1, round(_ROUND / max(_seconds(float32), _seconds(bfloat16))))
    while len(ratios) < _ROUNDS:
        ratios.append(_seconds(float32, steps) / _seconds(bfloat16, steps))
        if max(ratios) < 1 / _CLEARLY or (len(ratios) > 2 and min(ratios) > _CLEARLY):
            break
    return statistics.median(ratios)


def _seconds(step: Callable[[], object], times: int = 1) -> float:
    started = time.perf_counter()
    for _ in range(times):
        step()
    return time.perf_counter() - started


def _convolution(kind: str) -> Callable[[], object]:
    """The gradient of a convolution by its filters, the costliest of a step."""
    import tensorflow as tf

    images = tf.ones((64, 32, 32, 32), kind)
    gradient = tf.function(tf.compat.v1.nn.conv2d_backprop_filter)
    return partial(gradient, images, (3, 3, 32, 32), images, (1, 1, 1, 1), "SAME")


def _training_step(model: str, policy: str) -> Callable[[], object]:
    """A training step of the last of a model's recipes, a default one if it has any, on random images."""
    import tensorflow as tf

    known = recipes.of_model(model)
    recipe = ([each for each in known if each.group in recipes.DEFAULT] or known)[-1]
    phase = recipe.phases[-1]
    network = build(recipe, list(models.BACKBONES)[-1], precision=policy)
    compile_for(network, phase, steps=1, label_smoothing=recipe.label_smoothing)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (phase.batch_size, *network.input_shape[1:]), "uint8")
    labels = random.integers(0, network.output_shape[-1], phase.batch_size)
    step = tf.function(network.train_step)
    return partial(step, (tf.constant(images), tf.constant(labels)))
