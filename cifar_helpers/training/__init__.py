"""Training a recipe on the splits: seeding, compiling, fitting, resuming, evaluating.

A training that was interrupted resumes after its last finished epoch; one whose record is found is
not trained again.
"""

from cifar_helpers.training.feeding import feed, predict
from cifar_helpers.training.networks import build
from cifar_helpers.training.optimizers import WarmupDecay, compile_for
from cifar_helpers.training.plans import plan, quick_share
from cifar_helpers.training.precision import fastest_precision
from cifar_helpers.training.runs import Run
from cifar_helpers.training.trainings import evaluate, train

__all__ = [
    "Run",
    "WarmupDecay",
    "build",
    "compile_for",
    "evaluate",
    "fastest_precision",
    "feed",
    "plan",
    "predict",
    "quick_share",
    "train",
]
