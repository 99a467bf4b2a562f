"""The record of a finished training, and its network as a file."""

import hashlib
import os
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from cifar_helpers import files, hardware, metrics, models, results
from cifar_helpers.backend import keras
from cifar_helpers.errors import UserError
from cifar_helpers.models import layers  # noqa: F401  (registers what files of networks name)
from cifar_helpers.results import Result
from cifar_helpers.training.runs import Run


def make_result(
    run: Run, validation: np.ndarray, test: np.ndarray, *, prediction_seconds: float
) -> Result:
    """A finished run's record with the predictions.

    Args:
        run: with its model.
        validation: probabilities of the validation images, `(n, classes)`.
        test: probabilities of the test images, `(n, classes)`.
        prediction_seconds: that the test images took.
    """
    splits, labels = run.splits, run.splits.test.labels
    # What is kept on disk is what is measured, so a record can be made anew from its predictions.
    test, validation = (kept.astype("float16").astype("float32") for kept in (test, validation))
    temperature = metrics.fit_temperature(splits.validation.labels, validation)
    scaled = metrics.temperature_scale(test, temperature)
    record = {
        "model": run.recipe.model,
        "recipe": run.recipe.name,
        "variant_of": run.recipe.variant_of,
        "changes": run.recipe.changes,
        "seed": run.seed,
        "dataset": {
            **splits.source.as_dict(),
            "train_images": len(splits.train),
            "validation_images": len(splits.validation),
            "test_images": len(labels),
        },
        "backbone": _backbone_fields(run),
        "teacher": run.teacher.as_dict() if run.teacher else None,
        "image_size": run.recipe.image_size,
        "precision": run.precision,
        "deterministic": run.deterministic,
        **_model_fields(run),
        **_training_fields(run),
        "prediction_seconds_per_image": prediction_seconds / len(labels),
        "validation": _score(splits.validation.labels, validation),
        **_test_fields(labels, test, splits.class_names),
        "temperature_scaling": {
            "temperature": temperature,
            "test_loss": metrics.cross_entropy(labels, scaled),
            "calibration": metrics.calibration(labels, scaled),
        },
        "hardware": hardware.describe_hardware(),
        "versions": hardware.versions(),
        "commit": hardware.commit(),
        "parameters_hash": run.parameters_hash,
        "experiment_hash": run.experiment_hash,
        "created": files.now(),
    }
    return Result(
        record,
        {
            "probabilities": test,
            "labels": labels,
            "validation_probabilities": validation,
            "validation_labels": splits.validation.labels,
        },
    )


def _backbone_fields(run: Run) -> dict[str, str] | None:
    if isinstance(run.backbone, str):
        return {"backbone": run.backbone, "origin": "random weights", "sha256": ""}
    return run.backbone.as_dict() if run.backbone else None


def _score(labels: np.ndarray, probabilities: np.ndarray) -> dict:
    return {
        "accuracy": metrics.accuracy(labels, probabilities),
        "loss": metrics.cross_entropy(labels, probabilities),
    }


def _model_fields(run: Run) -> dict[str, Any]:
    return {
        "parameters": models.parameter_counts(run.model),
        "multiply_adds": models.multiply_adds(run.model),
        "weights_sha256": weights_digest(run.model),
    }


def weights_digest(model: keras.Model) -> str:
    """SHA-256 of all weights of a network, in order, hexadecimal."""
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight))
    return digest.hexdigest()


def read_network(path: Path) -> keras.Model:
    """A trained network from its file, uncompiled; a UserError if it cannot be read."""
    try:
        return keras.saving.load_model(path, compile=False)
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise UserError(
            f"the network {path.name} could not be read: {error}. Remove it and its record, the JSON file in "
            "results, and train it anew."
        ) from error


def network_of(result: Result, out: str | os.PathLike = "") -> keras.Model | None:
    """The trained network that a record is of: that of the run's folder, or the published one.

    Args:
        result: a finished record.
        out: the run's folder; "" for the published networks alone.

    Returns:
        An uncompiled model; None where the network was not kept, or is another training's.
    """
    own = [results.model_path(out, *result.place)] if out else []
    for path in (*own, results.published_network(*result.place)):
        if path.exists():
            network = read_network(path)
            if weights_digest(network) == result.record["weights_sha256"]:
                return network
    return None


def _training_fields(run: Run) -> dict[str, Any]:
    history = run.history
    epochs = len(history["accuracy"])
    phases = [
        {"requested": phase.epochs, "run": ran}
        for phase, ran in zip(run.recipe.phases, run.phase_epochs, strict=True)
    ]
    return {
        "epochs": {
            "requested": run.recipe.epochs,
            "run": epochs,
            "best": run.best_epoch,
            "phases": phases,
        },
        "train": {"accuracy": history["accuracy"][-1], "loss": history["loss"][-1]},
        "overfitting_gap": _gap(history, epochs),
        "kept_epoch": {"epoch": run.best_epoch, "overfitting_gap": _gap(history, run.best_epoch)},
        "history": history,
        "seconds": {
            "train": run.seconds,
            "per_epoch": sum(history["seconds"]) / epochs,
        },
        "images_per_second": run.images_per_second,
    }


def _gap(history: dict, epoch: int) -> float:
    """Training minus validation accuracy of an epoch, counted from 1, in percentage points."""
    return 100 * (history["accuracy"][epoch - 1] - history["val_accuracy"][epoch - 1])


def _test_fields(labels: np.ndarray, probabilities: np.ndarray, class_names: tuple) -> dict:
    predicted = metrics.predictions(probabilities)
    matrix = metrics.confusion_matrix(labels, predicted, len(class_names))
    return {
        "test": _score(labels, probabilities),
        "test_accuracy_interval": list(metrics.accuracy_interval(labels, probabilities)),
        "per_class": metrics.per_class(labels, predicted, class_names),
        "confusion_matrix": matrix.tolist(),
        "confused_pairs": metrics.confused_pairs(matrix, class_names),
        "calibration": metrics.calibration(labels, probabilities),
    }


def save_model(model: keras.Model, path: Path) -> None:
    """Write a network as a `.keras` file, uncompiled, whole or not at all.

    Raises:
        OSError: if it cannot be written, as where its folder is missing.
    """
    # A copy without the optimizer, whose state would treble the file.
    plain = keras.Model.from_config(model.get_config())
    plain.set_weights(model.get_weights())
    partial = path.with_name(f".{path.stem}.{os.getpid()}.keras")  # Keras asks for the ending
    try:
        plain.save(partial)
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        files.move(partial, path)
    finally:
        partial.unlink(missing_ok=True)
