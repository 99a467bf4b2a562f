"""The networks of the study and the backbones that transfer learning stands on.

Each entry of `MODELS` is a function here, under its name. It gives an uncompiled `keras.Model`,
images `(batch, 32, 32, 3)` in [0, 255] -> probabilities `(batch, classes)`. With `centred`, pixels
reach the first layer with about zero mean and unit variance, else in [0, 1]; `dropout` is a rate in
[0, 1). The tables are plain data; whatever needs Keras is imported when it is first asked for.
"""

import importlib
import pkgutil
import sys
import types
from typing import Any

from cifar_helpers.models.table import (
    BACKBONE_VARIABLE,
    BACKBONES,
    MODELS,
    Backbone,
    Model,
    backbone_label,
    model_label,
    network_label,
)

_SUBMODULES = ("backbones", "layers")
_FUNCTIONS = {
    **dict.fromkeys(("backbone_layers", "fine_tune", "fold_frozen", "split"), "transfer"),
    **dict.fromkeys(("multiply_adds", "parameter_counts", "stages"), "summary"),
    **dict.fromkeys(("first_layer", "gradient_norms", "receptive_fields"), "inspection"),
}

__all__ = [
    "BACKBONES",
    "BACKBONE_VARIABLE",
    "MODELS",
    "Backbone",
    "Model",
    "backbone_label",
    "model_label",
    "network_label",
    *_SUBMODULES,
    *_FUNCTIONS,
    *MODELS,
]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in MODELS:
        return pkgutil.resolve_name(MODELS[name].builder)
    if name in _FUNCTIONS:
        return pkgutil.resolve_name(f"{__name__}.{_FUNCTIONS[name]}:{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _Package(types.ModuleType):
    """Keeps the submodule `resnet20`, once imported, from hiding the function of that name."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in MODELS and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
