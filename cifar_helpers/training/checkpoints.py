"""Checkpoints: from one a training resumes after its last epoch as if it had not stopped."""

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from cifar_helpers import files
from cifar_helpers.backend import keras

_GROUPS = ("model", "optimizer", "best")


def write_checkpoint(path: Path, arrays: dict[str, list], state: dict[str, Any]) -> None:
    """Write a checkpoint whole.

    Args:
        path: of the `.npz` file.
        arrays: variables or arrays by group: those of the model, those of the optimizer, and the
            best weights, where early stopping keeps them.
        state: the rest, as JSON takes it.

    Raises:
        OSError: if it cannot be written; nothing of it is left then.
    """
    flat = {
        f"{group}/{position}": keras.ops.convert_to_numpy(value)
        for group, values in arrays.items()
        for position, value in enumerate(values)
    }
    encoded = np.array(json.dumps({**state, "versions": deciding_versions()}))
    files.replace_file(path, lambda file: np.savez(file, state=encoded, **flat))


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """A checkpoint's `state` and the arrays of its groups; None if it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            saved: dict[str, Any] = {"state": json.loads(str(file["state"]))}
            for group in _GROUPS:
                count = sum(name.startswith(f"{group}/") for name in file.files)
                saved[group] = [file[f"{group}/{position}"] for position in range(count)]
    except Exception as error:  # zipfile, zlib, json and NumPy each have their own ways to object
        if not files.is_damage(error):
            raise
        return None
    return saved


def misfit(saved: dict[str, Any], parameters_hash: str, model: keras.Model) -> str:
    """Why training cannot resume from a checkpoint as if it had not stopped; "" if it can."""
    state = saved["state"]
    if state["parameters_hash"] != parameters_hash:
        return "is of other parameters"
    for name, now in deciding_versions().items():
        before = state["versions"].get(name, "of another version")
        if _deciding_part(name, before) != _deciding_part(name, now):
            return f"was made with {name} {before}, now it is {now}"
    shapes = [tuple(variable.shape) for variable in model.variables]
    if [value.shape for value in saved["model"]] != shapes:
        return "is of another network"
    return ""


def deciding_versions() -> dict[str, str]:
    """The backend, and versions of what computes a training's numbers."""
    backend = keras.backend.backend()
    return {
        "backend": backend,
        backend: importlib.import_module(backend).__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
    }


def _deciding_part(name: str, version: str) -> str:
    # NumPy draws other random numbers in a new feature release at most (NEP 19).
    return ".".join(version.split(".")[:2]) if name == "numpy" else version
