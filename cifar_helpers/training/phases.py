"""One phase of a training: compile, fit from the last finished epoch, keep the right weights."""

import math
import time

from cifar_helpers.backend import keras
from cifar_helpers.errors import UserError
from cifar_helpers.recipes import Phase
from cifar_helpers.training.epochs import EpochLog
from cifar_helpers.training.features import phase_inputs
from cifar_helpers.training.feeding import feed
from cifar_helpers.training.optimizers import compile_for
from cifar_helpers.training.runs import Run

# What records show: label smoothing, which raises a confident network's loss, is left out.
_WATCHED = {"monitor": "val_cross_entropy", "mode": "min"}


def run_phase(run: Run, log: EpochLog, number: int) -> None:
    """Train the model of a run for one phase, counted from 0, from where its checkpoint got to."""
    phase = run.recipe.phases[number]
    log.started = time.perf_counter()  # what the frozen part computes is part of the price
    batches, model, validation = phase_inputs(run, phase, log.epochs_before)
    steps = math.ceil(len(run.splits.train) / phase.batch_size)
    recipe = run.recipe
    taught = {"teacher_share": recipe.teacher_share, "temperature": recipe.temperature}
    compile_for(model, phase, steps, recipe.label_smoothing, **taught)
    callbacks = _callbacks(phase)
    log.begin_phase(number, model, callbacks)
    if not log.phase_is_over:
        model.fit(
            feed(batches),
            epochs=phase.epochs,
            initial_epoch=log.epochs_in_phase,
            validation_data=feed(validation),
            callbacks=[*callbacks, log],
            shuffle=False,  # the batches are in their own, seeded order
            verbose=0,
        )
    if phase.ema:
        model.optimizer.finalize_variable_values(model.trainable_variables)
    log.end_phase()


def check_averaging(run: Run) -> None:
    """Refuse to average the weights of a network whose batch norms follow the batches.

    Averaged weights come with the moving statistics of the last ones, which do not fit them.

    Raises:
        UserError: where a phase has `ema` and the network such a batch norm.
    """
    follows = any(
        isinstance(layer, keras.layers.BatchNormalization)
        and getattr(layer, "follows", True)
        and layer.trainable
        for layer in run.model.layers
    )
    if follows and any(phase.ema for phase in run.recipe.phases):
        raise UserError(
            "ema needs a network whose batch norms keep their statistics; received "
            f"{run.recipe.model}, whose moving statistics would not fit the averaged weights. "
            f"Set ema=0 in the recipe {run.recipe.name}."
        )


def _callbacks(phase: Phase) -> list[keras.callbacks.Callback]:
    callbacks: list[keras.callbacks.Callback] = []
    if phase.ema:
        callbacks.append(keras.callbacks.SwapEMAWeights())
    if phase.reduce_on_plateau:
        callbacks.append(
            keras.callbacks.ReduceLROnPlateau(
                factor=0.5, patience=phase.reduce_on_plateau, **_WATCHED
            )
        )
    if phase.early_stopping:
        callbacks.append(
            keras.callbacks.EarlyStopping(
                patience=phase.early_stopping, restore_best_weights=True, **_WATCHED
            )
        )
    return callbacks
