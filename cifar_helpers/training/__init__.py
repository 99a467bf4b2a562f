"""Training a recipe on the splits: seeding, compiling, fitting, resuming, evaluating.

A training that was interrupted resumes after its last finished epoch; one whose record is found is
not trained again.
"""

import importlib
from typing import TYPE_CHECKING, Any

from cifar_helpers.training.plans import backbone_weights, plan, prepare
from cifar_helpers.training.runs import Run

if TYPE_CHECKING:
    from cifar_helpers.training.explained import grad_cam, heat_maps
    from cifar_helpers.training.feeding import feed, predict
    from cifar_helpers.training.networks import build
    from cifar_helpers.training.optimizers import WarmupDecay, compile_for
    from cifar_helpers.training.precision import fastest_precision
    from cifar_helpers.training.records import network_of, read_network
    from cifar_helpers.training.trainings import evaluate, is_recorded, train

# What imports Keras is imported when it is asked for: a plan needs none.
_MODULES = {
    "WarmupDecay": "optimizers",
    "build": "networks",
    "compile_for": "optimizers",
    "evaluate": "trainings",
    "fastest_precision": "precision",
    "feed": "feeding",
    "grad_cam": "explained",
    "heat_maps": "explained",
    "is_recorded": "trainings",
    "network_of": "records",
    "predict": "feeding",
    "read_network": "records",
    "train": "trainings",
}

__all__ = [
    "Run",
    "WarmupDecay",
    "backbone_weights",
    "build",
    "compile_for",
    "evaluate",
    "fastest_precision",
    "feed",
    "grad_cam",
    "heat_maps",
    "is_recorded",
    "network_of",
    "plan",
    "predict",
    "prepare",
    "read_network",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
