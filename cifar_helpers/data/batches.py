"""Batches for `fit`, augmented anew each epoch."""

from typing import Any

import numpy as np

from cifar_helpers.backend import keras
from cifar_helpers.data.augmentation import ORDER, augment
from cifar_helpers.errors import UserError


class Batches(keras.utils.PyDataset):
    """Batches for `fit`: each image once an epoch, in a new order and augmented anew.

    The last batch holds what is left. What an epoch holds depends on its number and the seed alone:
    a run that was interrupted resumes, as if it had not been, from `Batches(...,
    epoch=finished_epochs)`. Leave out `fit`'s own `steps_per_epoch`; its `shuffle` must be False,
    since it would shuffle the batches unseeded.

    Raises:
        UserError: for an unknown policy, no images, or a batch size below 1.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        batch_size: int,
        *,
        policy: str = "none",
        shuffle: bool = True,
        seed: int = 0,
        epoch: int = 0,
    ):
        super().__init__()
        if batch_size < 1 or len(images) == 0:
            raise UserError(
                "batches need at least one image and a batch_size of at least 1; received "
                f"{len(images)} images and a batch_size of {batch_size}."
            )
        self.images, self.labels = images, labels
        self.batch_size, self.policy, self.shuffle = batch_size, policy, shuffle
        self.seed, self.epoch = seed, epoch
        self._augmented: Any = None  # of all epochs the same memory, since new memory is slow
        self._prepared = self._served = -1
        self._prepare()

    def __len__(self) -> int:
        """Batches an epoch."""
        return -(-len(self.images) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """One batch of the present epoch: images uint8 `(b, 32, 32, 3)` and targets, labels `(b,)`."""
        if not 0 <= index < len(self):
            raise IndexError(f"an epoch has {len(self)} batches; received index {index}.")
        self._prepare()
        if self._served >= 0:
            self._served += 1
        chosen = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        return self._take(chosen), self._target(chosen)

    def _take(self, chosen: np.ndarray) -> np.ndarray:
        return self._augmented[chosen]

    def _target(self, chosen: np.ndarray) -> np.ndarray:
        return self.labels[chosen]

    def on_epoch_begin(self) -> None:
        """Keras calls this before each epoch."""
        self._served = 0

    def on_epoch_end(self) -> None:
        """Go on to the next epoch, if this one was served in full.

        Keras also calls this before the first epoch, and it draws batches to find their shapes:
        neither counts as an epoch.
        """
        if self._served >= len(self):
            self.epoch += 1
        self._served = -1

    def _prepare(self) -> None:
        """Augment and order the present epoch, once."""
        if self._prepared == self.epoch:
            return
        self._augmented = augment(
            self.images, self.policy, seed=self.seed, epoch=self.epoch, out=self._augmented
        )
        self._order = np.arange(len(self.images))
        if self.shuffle:
            np.random.default_rng((self.seed, ORDER, self.epoch)).shuffle(self._order)
        self._prepared = self.epoch
