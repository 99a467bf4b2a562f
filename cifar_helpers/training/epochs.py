"""What is kept of each epoch: its figures, its line in the notebook, and a checkpoint."""

import math
import time
from typing import Any

import numpy as np

from cifar_helpers import files
from cifar_helpers.backend import keras
from cifar_helpers.errors import UserError
from cifar_helpers.training.checkpoints import misfit, read_checkpoint, write_checkpoint
from cifar_helpers.training.progress import note_progress
from cifar_helpers.training.runs import Run

_COLUMNS = ("accuracy", "val_accuracy", "loss", "val_loss", "learning_rate", "seconds")


class EpochLog(keras.callbacks.Callback):
    """Records each epoch, prints its line, and keeps a checkpoint from which to resume.

    Args:
        run: the training, whose history it fills.
        out: the run's folder; "" keeps no checkpoint.
        verbose: whether to print.
    """

    def __init__(self, run: Run, out: str, verbose: bool):
        super().__init__()
        self.run, self.out, self.verbose = run, out, verbose
        self.path = run.checkpoint(out) if out else None
        self.watching: list[keras.callbacks.Callback] = []
        self.restored: dict[str, Any] | None = None
        self.phase = 0
        self.epochs_in_phase = 0
        self.phase_is_over = False
        self.started = 0.0
        self.fit_seconds = 0.0
        run.history = {name: [] for name in _COLUMNS}

    @property
    def epochs_before(self) -> int:
        """Finished epochs over all phases."""
        return len(self.run.history["accuracy"])

    @property
    def images_per_second(self) -> float:
        """Training images a second, over the epochs so far."""
        images = self.epochs_before * len(self.run.splits.train)
        return images / self.fit_seconds if self.fit_seconds else 0.0

    # Beginning and end of a phase

    def begin_phase(self, number: int, model: keras.Model, watching: list) -> None:
        """Get ready for `fit`; take the optimizer's state from the checkpoint if there is one.

        Args:
            number: of the phase, from 0.
            model: compiled for it.
            watching: the callbacks whose memory of earlier epochs a checkpoint holds.
        """
        self.phase, self.watching = number, watching
        self.epochs_in_phase, self.phase_is_over = 0, False
        if self.restored:
            state = self.restored["state"]
            self.epochs_in_phase = state["epochs_in_phase"]
            self.phase_is_over = (
                state["stopped"] or self.epochs_in_phase >= self.run.recipe.phases[number].epochs
            )
            _assign(model.optimizer.variables, self.restored["optimizer"])
            if self.phase_is_over and self.restored["best"]:
                model.set_weights(self.restored["best"])
        note_progress(self.out, self.run, "running", number + 1)

    def end_phase(self) -> None:
        """Note how long the phase took and which epoch's weights it keeps."""
        run = self.run
        before = sum(run.phase_epochs)
        run.phase_epochs.append(self.epochs_in_phase)
        stopping = self._early_stopping()
        kept = self.epochs_in_phase
        if self.restored and self.phase_is_over:
            kept = self.restored["state"]["best_epoch"] or kept
        elif stopping and stopping.best_weights is not None:
            kept = stopping.best_epoch + 1
        run.best_epoch = before + kept
        run.seconds += time.perf_counter() - self.started
        self.restored = None
        self.epochs_in_phase = 0
        self.save(between_phases=True)

    # Hooks of Keras

    def on_train_begin(self, logs=None):
        """Give the callbacks, which have just forgotten all, their memory of earlier epochs."""
        if self.restored:
            states = self.restored["state"]["watched"]
            for callback, state in zip(self.watching, states, strict=True):
                vars(callback).update(state)
            stopping = self._early_stopping()
            if stopping and self.restored["best"]:
                stopping.best_weights = self.restored["best"]
            self.restored = None

    def on_epoch_begin(self, epoch, logs=None):
        """Take the time, and the learning rate, which a callback may change at the epoch's end."""
        self.epoch_started = self.validation_started = time.perf_counter()
        rate = self.model.optimizer.learning_rate  # of a schedule: its first step's
        self.learning_rate = float(keras.ops.convert_to_numpy(rate))

    def on_test_begin(self, logs=None):
        """Take the time."""
        self.validation_started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        """Record the epoch, write the checkpoint, print the line.

        Raises:
            UserError: if the loss is no longer a number; the checkpoint of the epoch before stays.
        """
        for name in ("loss", "val_cross_entropy"):
            if not math.isfinite(logs[name]):
                raise UserError(
                    f"the loss of a training must stay finite; that of {self.run.recipe.model} "
                    f"{self.run.title} is {logs[name]} in epoch {self.epochs_before + 1}. Lower "
                    "learning_rate, or give it a warmup."
                )
        self.fit_seconds += self.validation_started - self.epoch_started
        values = {
            "accuracy": logs["accuracy"],
            "val_accuracy": logs["val_accuracy"],
            # Without label smoothing, whatever the training objective: comparable over recipes.
            "loss": logs["cross_entropy"],
            "val_loss": logs["val_cross_entropy"],
            "learning_rate": self.learning_rate,
            "seconds": time.perf_counter() - self.epoch_started,
        }
        for name, value in values.items():
            self.run.history[name].append(float(value))
        self.epochs_in_phase = epoch + 1
        self.save()
        note_progress(self.out, self.run, "running", self.phase + 1)
        if self.verbose and _is_shown(self.epochs_before, self.run.recipe.epochs):
            print(_line(self.run, self.epochs_before - 1))

    # Checkpoints

    def save(self, *, between_phases: bool = False) -> None:
        """Write the state after an epoch."""
        if self.path is None:
            return
        run, stopping = self.run, self._early_stopping()
        best = [] if between_phases or not stopping else stopping.best_weights or []
        so_far = 0.0 if between_phases else time.perf_counter() - self.started
        state = {
            "parameters_hash": run.parameters_hash,
            "history": run.history,
            "phase_epochs": run.phase_epochs,
            "best_epoch_before": run.best_epoch,
            "epochs_in_phase": self.epochs_in_phase,
            "between_phases": between_phases,
            "stopped": bool(getattr(self.model, "stop_training", False)),
            "best_epoch": stopping.best_epoch + 1 if stopping and best else 0,
            "watched": [_memory(callback) for callback in self.watching],
            "seconds": run.seconds + so_far,
            "fit_seconds": self.fit_seconds,
        }
        optimizer = [] if between_phases else self.model.optimizer.variables
        arrays = {"model": run.model.variables, "optimizer": optimizer, "best": best}
        write_checkpoint(self.path, arrays, state)

    def restore(self) -> None:
        """Resume from the checkpoint of an earlier session, if it fits; else keep it apart."""
        if self.path is None or not self.path.exists():
            return
        run = self.run
        saved = read_checkpoint(self.path)
        problem = misfit(saved, run.parameters_hash, run.model) if saved else "could not be read"
        if saved is None or problem:
            kept = self.path.with_suffix(".other" if saved else ".corrupt")
            files.move(self.path, kept)
            print(f"The checkpoint {problem}: kept as {kept.name}; training starts anew.")
            return
        state = saved["state"]
        run.history, run.phase_epochs = state["history"], state["phase_epochs"]
        run.best_epoch, run.seconds = state["best_epoch_before"], state["seconds"]
        self.fit_seconds = state["fit_seconds"]
        _assign(run.model.variables, saved["model"])
        self.restored = None if state["between_phases"] else saved
        if self.verbose and self.epochs_before:
            print(f"resuming after epoch {self.epochs_before}")

    def _early_stopping(self) -> keras.callbacks.EarlyStopping | None:
        kind = keras.callbacks.EarlyStopping
        return next((callback for callback in self.watching if isinstance(callback, kind)), None)


def _memory(callback: keras.callbacks.Callback) -> dict[str, Any]:
    """The numbers by which a callback remembers earlier epochs."""
    names = ("wait", "best", "best_epoch", "stopped_epoch", "cooldown_counter")
    state = {name: getattr(callback, name) for name in names if hasattr(callback, name)}
    if state.get("best") is not None:
        state["best"] = float(state["best"])  # NumPy's, which JSON does not take
    return state


def _assign(variables: list, values: list[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _is_shown(epoch: int, epochs: int) -> bool:
    """Whether the epoch gets a line: all of a short training, about six of a long one."""
    every = 1 if epochs <= 6 else math.ceil(epochs / 5)
    return epoch == 1 or epoch == epochs or epoch % every == 0


def _line(run: Run, index: int) -> str:
    value = {name: values[index] for name, values in run.history.items()}
    return (
        f"epoch {index + 1:3d}/{run.recipe.epochs}  {value['seconds']:5.1f} s  "
        f"training {value['accuracy']:6.1%} loss {value['loss']:.3f}  "
        f"validation {value['val_accuracy']:6.1%} loss {value['val_loss']:.3f}"
    )
