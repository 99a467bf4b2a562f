"""The data sets, one entry each, and what a data set's reader gives."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Split:
    """Images with their labels.

    Attributes:
        images: uint8 `(n, 32, 32, 3)` in [0, 255].
        labels: int64 `(n,)`, positions in the class names.
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> "Split":
        """Those at some positions."""
        return Split(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class Contents:
    """What a data set's reader gives.

    Attributes:
        train: the training images; validation is held out of them.
        test: the test images.
        class_names: names of the labels from 0 on; as many as there are classes.
        location: the name, without the path, of the folder or file that was read; "" if none was.
        verified: whether every file has its official checksum; None where there are none to match.
    """

    train: Split
    test: Split
    class_names: tuple[str, ...]
    location: str = ""
    verified: bool | None = None


@dataclass(frozen=True)
class DataSet:
    """A data set of small images.

    Attributes:
        name: what options and notebooks call it.
        label: what readers see, and records bear as the data set's name.
        subject: what sentences are about: "test accuracy on ...".
        reader: "module:function", `(data_dir) -> Contents`. It raises `DataError` for a copy that
            is damaged, or named and missing, and its subclass `DataUnavailable` where there is none.
        real: whether it is CIFAR-10, so that published figures belong beside its results.
        limits: a sentence for the top of every page about it; "" if there is nothing to warn of.
        fallback: whether "auto" ends with it.
        takes_copy: whether the user may name a copy (`data_dir`).
        quick_train_size: training images of a quick pass, at the most. With a number that leaves
            few images for the last batch, batch norms end on the statistics of those few.
    """

    name: str
    label: str
    subject: str
    reader: str
    real: bool = False
    limits: str = ""
    fallback: bool = False
    takes_copy: bool = False
    quick_train_size: int = 6_000


# "auto" is the first one, or where that cannot be had the one that is marked as fallback.
DATASETS: dict[str, DataSet] = {
    entry.name: entry
    for entry in (
        DataSet(
            name="cifar10",
            label="CIFAR-10",
            subject="CIFAR-10",
            reader="cifar_helpers.data.cifar10:read",
            real=True,
            takes_copy=True,
        ),
        DataSet(
            name="toy",
            label="toy set",
            subject="the toy set",
            reader="cifar_helpers.data.toy:read",
            limits="Toy run: the images are drawn, not CIFAR-10, and no accuracy below says anything "
            "about CIFAR-10.",
            fallback=True,
            quick_train_size=2_304,
        ),
    )
}


def dataset_by_label(label: str) -> DataSet | None:
    """The entry of the data set that a record names; None where the table no longer has it."""
    return next((entry for entry in DATASETS.values() if entry.label == label), None)
