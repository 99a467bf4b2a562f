"""CIFAR-10, or another data set in its place, as one `Splits`; augmentation; batches.

Images are uint8 `(n, 32, 32, 3)` in [0, 255] and labels int64 `(n,)` from end to end.
"""

from cifar_helpers.data.splits import (
    DATASETS,
    POLICIES,
    Batches,
    Source,
    Split,
    Splits,
    affine,
    alternating_flip,
    augment,
    crop,
    flip,
    load,
    toy,
)

__all__ = [
    "DATASETS",
    "POLICIES",
    "Batches",
    "Source",
    "Split",
    "Splits",
    "affine",
    "alternating_flip",
    "augment",
    "crop",
    "flip",
    "load",
    "toy",
]
