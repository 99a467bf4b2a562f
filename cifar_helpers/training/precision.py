"""The number format that a network computes in."""

from cifar_helpers import hardware, models
from cifar_helpers.backend import on_tensorflow_cpu
from cifar_helpers.errors import UserError
from cifar_helpers.text import listed

# What may be asked for, and Keras' policy for it, by which it is hashed and recorded.
PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


def fastest_precision(model: str) -> str:
    """The policy that was measured to train a model fastest, at equal accuracy, on this device.

    Only processors that multiply bfloat16 in hardware gain from "mixed_bfloat16", and not with
    every network: `benchmarks/speed.py` measures both. Elsewhere it is "float32".
    """
    gains = models.MODELS[model].faster_in_bfloat16
    faster = gains and on_tensorflow_cpu() and hardware.has_bfloat16()
    return "mixed_bfloat16" if faster else "float32"


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
