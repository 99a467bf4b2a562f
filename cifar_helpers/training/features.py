"""What the frozen part of a network makes of each image: computed once, not in every epoch."""

from functools import partial
from typing import Any

import numpy as np

from cifar_helpers import cache, data, hardware, models
from cifar_helpers.backend import keras
from cifar_helpers.errors import UserError
from cifar_helpers.recipes import Phase
from cifar_helpers.training.feeding import in_order, predict
from cifar_helpers.training.records import weights_digest
from cifar_helpers.training.runs import Run
from cifar_helpers.training.teaching import TaughtBatches


def phase_inputs(
    run: Run, phase: Phase, epoch: int
) -> tuple[data.Batches, keras.Model, data.Batches]:
    """What a phase trains, and on what: images, or what the frozen part makes of them.

    Args:
        run: with its model; the layers that the phase trains are unfrozen.
        phase: one of the recipe's.
        epoch: epochs of the run that are finished.

    Returns:
        Batches to train on, the network that takes them, and batches to validate on.

    Raises:
        UserError: for a teacher of features that are computed once.
    """
    model, train, validation = run.model, run.splits.train, run.splits.validation
    options: dict[str, Any] = {"batch_size": phase.batch_size, "seed": run.seed, "epoch": epoch}
    if models.MODELS[run.recipe.model].has_backbone:
        models.fine_tune(model, layers=phase.unfrozen)
        whole = models.backbone_layers(model)[
            0
        ].trainable  # also where more is asked for than it has
        # With many views of an image only the pooled features are cached, of two of them.
        views = data.find_policy(run.recipe.augmentation).views
        if phase.unfrozen == 0 or (not whole and views in (1, 2)):
            if run.teacher:
                raise UserError(
                    "a teacher needs each image as it is shown, and what is frozen is computed once "
                    "for each; set teacher='', teacher_share=0 and temperature=1, or unfreeze every layer in the phases of "
                    f"{run.recipe.name}."
                )
            trunk, tail = models.split(model)
            images = [train.images, train.images[:, :, ::-1]][: views or 2]
            if phase.epochs == 1 and len(images) == 2:  # only one of an image's two is seen
                mirrored = shown_view(run.seed, len(train), epoch)[:, None, None, None]
                images = [np.where(mirrored, images[1], images[0])]
            *shown, held_out = _activations(run, trunk, [*images, validation.images])
            batches = ViewBatches(shown, train.labels, **options)
            return batches, tail, in_order(tail, held_out, validation.labels)
    if run.teacher:
        batches = TaughtBatches(run.teacher, train.images, train.labels, **options)
    else:
        policy = run.recipe.augmentation
        batches = data.Batches(train.images, train.labels, policy=policy, **options)
    held_out = in_order(model, validation.images, validation.labels)
    if models.MODELS[run.recipe.model].has_backbone:
        model = models.fold_frozen(model)
    return batches, model, held_out


def _activations(run: Run, trunk: keras.Model, sets: list[np.ndarray]) -> list[np.ndarray]:
    """What the frozen part of a network makes of sets of images, float16, cached if it can be."""

    def compute(images: np.ndarray) -> np.ndarray:
        # Of order one, so that float16 keeps three digits in half the room.
        activations = predict(trunk, images).astype("float16")
        if not np.isfinite(activations).all():
            raise ValueError(f"activations at {trunk.layers[-1].name} are too large for float16.")
        return activations

    if isinstance(run.backbone, str):  # random weights: nobody will ask for them again
        return [compute(images) for images in sets]
    key = {
        "weights": weights_digest(trunk),
        "network": trunk.to_json(),
        "versions": {name: hardware.versions().get(name) for name in ("keras", "cifar-helpers")},
    }
    return cache.cached_all(
        [(key | {"images": cache.digest(images)}, partial(compute, images)) for images in sets]
    )


def shown_view(seed: int, images: int, epoch: int) -> np.ndarray:
    """Which of its two views, 0 or 1, an epoch shows of each image; the next one shows the other."""
    return (np.random.default_rng(seed).integers(0, 2, size=images) + epoch) % 2


class ViewBatches(data.Batches):
    """Batches of activations: each epoch, each image's activations of one of its views.

    Args:
        views: one array `(n, ...)` of the images as they are, and perhaps one of them mirrored.
        labels: int64 `(n,)`.
        batch_size: images a batch.
        options: as of `data.Batches`.
    """

    def __init__(self, views: list[np.ndarray], labels: np.ndarray, batch_size: int, **options):
        self.views = views
        super().__init__(views[0], labels, batch_size, **options)

    def _take(self, chosen: np.ndarray) -> np.ndarray:
        taken = self.views[0][chosen]
        if len(self.views) > 1:
            second = shown_view(self.seed, len(self.labels), self.epoch)[chosen] == 1
            taken[second] = self.views[1][chosen[second]]
        return taken
