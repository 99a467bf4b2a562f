"""What the notebooks of a run read: data and weights, found once and passed on by name."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cifar_helpers import data, models, recipes
from cifar_helpers.errors import UserError, WeightsError, user_path
from cifar_helpers.runner.notebooks import Notebook
from cifar_helpers.runner.options import Options
from cifar_helpers.runner.processes import run_apart
from cifar_helpers.text import listed


@dataclass(frozen=True)
class Inputs:
    """What was found.

    Attributes:
        data: `dataset` (by which `data.load` finds it), `name`, `real`, `verified`, `sha256`,
            `notice`, `subject` (what pages call it) and `images` (for training and validation);
            empty where no notebook reads data.
        weights: `backbone`, `origin`, `sha256` and `notice` of the run's backbone, then of those
            that recipes name themselves; empty where no notebook needs any.
        precisions: what precision a model trains in where none was named; one that is not there is
            trained as its records say, or as the options do.
    """

    data: dict[str, Any]
    weights: tuple[dict[str, str], ...] = ()
    precisions: dict[str, str] = field(default_factory=dict)

    @property
    def backbone(self) -> str:
        """The name of the run's backbone, "" where none is needed."""
        return self.weights[0]["backbone"] if self.weights else ""

    @property
    def notices(self) -> list[str]:
        """A sentence on each, for the terminal."""
        found = [each["notice"] for each in (self.data, *self.weights) if each]
        return [*found, *self._precision_notice()]

    def _precision_notice(self) -> list[str]:
        models_by_precision: dict[str, list[str]] = {}
        for model, precision in self.precisions.items():
            models_by_precision.setdefault(precision, []).append(models.model_label(model))
        each = [f"{name} ({listed(labels)})" for name, labels in models_by_precision.items()]
        return [f"Precision: {' and '.join(each)}."] if each else []


def find_data(options: Options, notebooks: Sequence[Notebook]) -> dict[str, Any]:
    """Make sure that the data are there, once, and give `Inputs.data`.

    Raises:
        UserError: if the data that were asked for cannot be had, or a notebook that trains cannot be
            told which they are.
        OSError: if the process that looks for them was killed.
    """
    for notebook in notebooks:
        if notebook.model and notebook.trains_a_plan and "dataset" not in notebook.types:
            raise UserError(
                f"a notebook that trains must have the parameter dataset; {notebook.name} has none. "
                "Add it to the cell tagged parameters."
            )
    if not any("dataset" in notebook.types for notebook in notebooks):
        return {}
    print("Checking the data ...", flush=True)
    return run_apart(load_data, options.dataset or "auto", absolute_path(options.data_dir))


def load_data(dataset: str, data_dir: str) -> dict[str, Any]:
    """Check data by loading them, which fills memory; arguments as of `data.load`."""
    splits = data.load(dataset, data_dir=data_dir)
    source = splits.source
    entry = data.dataset_by_label(source.name)
    assert entry is not None  # it has just been read
    return {
        "dataset": entry.name,
        **source.as_dict(),
        "notice": source.notice(),
        "subject": entry.subject,
        "images": len(splits.pool),
    }


def find_weights(
    options: Options, notebooks: Sequence[Notebook], begun_with: str
) -> tuple[dict[str, str], ...]:
    """Make sure that the backbones' weights are there, settle "auto", and give `Inputs.weights`.

    Args:
        options: name a backbone, or a file of weights.
        notebooks: those that are to run.
        begun_with: the backbone that the run had in an earlier part, or "".

    Raises:
        UserError: if they cannot be had.
        OSError: if the process that looks for them was killed.
    """
    if not any("backbone" in notebook.types for notebook in notebooks):
        return ()
    asked = options.backbone if options.backbone not in (None, "auto") else begun_with
    try:
        found = run_apart(load_weights, [asked or "auto"], absolute_path(options.weights_file))
    except WeightsError as error:
        if asked == begun_with != "":
            raise WeightsError(
                f"the run was begun with the backbone {begun_with}, whose weights can no longer "
                f"be had: {error} Or name another folder with --out."
            ) from error
        raise
    own = _own_backbones(options, notebooks)
    return (*found, *run_apart(load_weights, own, "")) if own else found


def _own_backbones(options: Options, notebooks: Sequence[Notebook]) -> list[str]:
    """The backbones that the recipes to train name themselves, each once."""
    trained = [models.MODELS[each.model] for each in notebooks if each.model]
    wanted = list(options.recipes or recipes.DEFAULT)
    names = [
        recipe.backbone
        for model in trained
        if model.has_backbone
        for recipe in recipes.select(model.name, wanted)
        if recipe.backbone
    ]
    return list(dict.fromkeys(names))


def load_weights(names: list[str], weights_file: str) -> tuple[dict[str, str], ...]:
    """Check the weights of backbones by finding their files; the first one's may be given."""
    files = [weights_file, *[""] * (len(names) - 1)]
    found = [models.backbones.resolve(name, file) for name, file in zip(names, files, strict=True)]
    return tuple({**each.as_dict(), "notice": each.notice()} for each in found)


def absolute_path(path: str | None) -> str:
    """A path as a user writes it, made absolute; "" where there is none."""
    return str(user_path(path).resolve()) if path else ""


def find_precisions(
    options: Options,
    notebooks: Sequence[Notebook],
    folder: Path,
    begun_with: dict[str, str],
    environment: dict[str, str],
) -> dict[str, str]:
    """Settle on each model's precision where none was named, and give `Inputs.precisions`.

    The full study computes in float32, which every processor can repeat and check; a quick pass, or
    "auto", in what is faster here.

    Args:
        options: name a precision, "auto", or none.
        notebooks: those that are to run.
        folder: the run's. Models that it has records of, from before the choice was written down,
            are left to them.
        begun_with: what the run settled on in an earlier part.
        environment: variables of the kernels, which say how many threads they have.

    Raises:
        OSError: if the process that measures was killed.
    """
    if options.precision not in (None, "auto"):
        return {}
    trained = [each.model for each in notebooks if each.model and "precision" in each.types]
    recorded = (
        [] if options.fresh else [path.parts[-3] for path in folder.glob("results/*/*/*.json")]
    )
    settled = {model: begun_with[model] for model in trained if model in begun_with}
    unknown = [model for model in trained if model not in (*settled, *recorded)]
    if options.precision is None and not options.is_quick:
        settled |= dict.fromkeys(unknown, "float32")
    elif unknown:
        settled |= run_apart(measure_precisions, unknown, environment)
    return settled


def measure_precisions(trained: list[str], environment: dict[str, str]) -> dict[str, str]:
    """Which precision is fastest for each model, in a process with those variables."""
    os.environ.update(environment)
    from cifar_helpers.training import fastest_precision

    return {model: recipes.precision_name(fastest_precision(model)) for model in trained}
