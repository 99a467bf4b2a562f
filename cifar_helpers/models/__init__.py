"""The networks of the study and the backbones that transfer learning stands on.

The tables are plain data; whatever needs Keras is imported when it is first asked for.
"""

from typing import Any

from cifar_helpers.models.table import (
    BACKBONES,
    MODELS,
    Backbone,
    Model,
    backbone_label,
    imported,
    model_label,
)

_MODULES = {
    "backbones": None,
    "layers": None,
    **dict.fromkeys(
        ("backbone_layers", "fine_tune", "multiply_adds", "parameter_counts", "split", "stages"),
        "networks",
    ),
    **dict.fromkeys(MODELS, "networks"),
}

__all__ = [
    "BACKBONES",
    "MODELS",
    "Backbone",
    "Model",
    "backbone_label",
    "imported",
    "model_label",
    *_MODULES,
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    if _MODULES[name] is None:
        return importlib.import_module(f"{__name__}.{name}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
