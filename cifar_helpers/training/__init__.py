"""Training a recipe on the splits: seeding, compiling, fitting, resuming, evaluating."""

from cifar_helpers.training.train import (
    PRECISIONS,
    Run,
    WarmupDecay,
    build,
    compile_for,
    evaluate,
    fastest_precision,
    feed,
    plan,
    predict,
    set_seed,
    train,
)

__all__ = [
    "PRECISIONS",
    "Run",
    "WarmupDecay",
    "build",
    "compile_for",
    "evaluate",
    "fastest_precision",
    "feed",
    "plan",
    "predict",
    "set_seed",
    "train",
]
