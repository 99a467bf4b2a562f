"""What a network consists of: parameters, multiply-adds, and its blocks one by one."""

import math
import re
from collections import Counter
from typing import Any

from cifar_helpers.backend import keras
from cifar_helpers.models.layers import is_head

layers = keras.layers

# What tables call the layers that they count; the others compute little and are left out.
_KINDS = {
    "Conv2D": "conv",
    "DepthwiseConv2D": "depthwise conv",
    "Dense": "dense",
    "MaxPooling2D": "max pool",
    "Resizing": "resize",
    "InputLayer": "input",
    "GlobalAveragePooling2D": "average pool",
}


def parameter_counts(model: keras.Model) -> dict[str, int]:
    """How many weights a model has: "total", and "trainable", those trained as it stands."""
    trainable = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    return {"total": model.count_params(), "trainable": trainable}


def multiply_adds(model: keras.Model) -> int:
    """Multiply-adds of one image's forward pass, convolutions and dense layers counted."""
    return sum(_layer_multiply_adds(layer) for layer in model.layers)


def _layer_multiply_adds(layer: keras.Layer) -> int:
    if isinstance(layer, keras.Model):
        return multiply_adds(layer)
    if isinstance(layer, layers.Dense):
        return math.prod(layer.kernel.shape)
    if isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D)):
        return math.prod(layer.output.shape[1:3]) * math.prod(layer.kernel.shape)
    return 0


def stages(model: keras.Model) -> list[dict[str, Any]]:
    """The model block by block, for tables and diagrams.

    Returns:
        One dict a block, in order: `name`, `detail` (what it consists of), `output_shape` (without
        the batch), `parameters`, `multiply_adds`, `skips` (the kind of each skip connection, in
        order: "identity", "projection" by a convolution, or "padded" and otherwise without weights),
        `frozen` (whether it has weights and none of its layers trains).
    """
    reads = Counter(id(tensor) for layer in model.layers[1:] for tensor in _inputs(layer))
    blocks: dict[str, list[keras.Layer]] = {}
    for layer in model.layers:
        blocks.setdefault(_block_name(layer), []).append(layer)
    return [
        {
            "name": name,
            "detail": _describe(members),
            "output_shape": tuple(members[-1].output.shape[1:]),
            "parameters": sum(layer.count_params() for layer in members),
            "multiply_adds": sum(_layer_multiply_adds(layer) for layer in members),
            "skips": tuple(
                _skip_kind(layer, reads) for layer in members if isinstance(layer, layers.Add)
            ),
            "frozen": _is_frozen(members),
        }
        for name, members in blocks.items()
        if name != "rescale"  # arithmetic on the input
    ]


def _inputs(layer: keras.Layer) -> list[keras.KerasTensor]:
    return keras.tree.flatten(layer.input)


def _skip_kind(addition: keras.Layer, reads: Counter) -> str:
    """What the shorter of an addition's branches does; a branch starts at a tensor read twice."""
    branches = []
    for tensor in _inputs(addition):
        branch: list[keras.Layer] = []
        while reads[id(tensor)] == 1:
            branch.append(tensor._keras_history.operation)
            tensor = _inputs(branch[-1])[0]
        branches.append(branch)
    skip = min(branches, key=len)
    if not skip:
        return "identity"
    return "projection" if any(isinstance(layer, layers.Conv2D) for layer in skip) else "padded"


def _is_frozen(members: list[keras.Layer]) -> bool:
    weighted = [layer for layer in members if layer.weights]
    return bool(weighted) and not any(layer.trainable for layer in weighted)


def _block_name(layer: keras.Layer) -> str:
    """The block that a layer belongs to, from its name: `stage2_block1_conv1` -> `stage2`."""
    if is_head(layer):
        return "head"
    found = re.match(r"(block|stage)\d+|[a-z]+", layer.name)
    return found.group() if found else layer.name


def _describe(members: list[keras.Layer]) -> str:
    kinds = [_KINDS[type(layer).__name__] for layer in members if type(layer).__name__ in _KINDS]
    counts = {kind: kinds.count(kind) for kind in kinds}
    return ", ".join(f"{count} {kind}" if count > 1 else kind for kind, count in counts.items())
