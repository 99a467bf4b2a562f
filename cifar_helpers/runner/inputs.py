"""What the notebooks of a run read: data and weights, found once and passed on by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cifar_helpers import data, models, recipes
from cifar_helpers.errors import WeightsError, user_path
from cifar_helpers.runner.notebooks import Notebook
from cifar_helpers.runner.options import Options
from cifar_helpers.runner.processes import run_apart


@dataclass(frozen=True)
class Inputs:
    """What was found.

    Attributes:
        data: `dataset` (by which `data.load` finds it), `name`, `real`, `verified`, `sha256`,
            `notice`, `subject` (what pages call it) and `images` (for training and validation);
            empty where no notebook reads data.
        weights: `backbone`, `origin`, `sha256` and `notice` of the run's backbone, then of those
            that recipes name themselves; empty where no notebook needs any.
    """

    data: dict[str, Any]
    weights: tuple[dict[str, str], ...] = ()

    @property
    def backbone(self) -> str:
        """The name of the run's backbone, "" where none is needed."""
        return self.weights[0]["backbone"] if self.weights else ""

    @property
    def notices(self) -> list[str]:
        """A sentence on each, for the terminal."""
        return [each["notice"] for each in (self.data, *self.weights) if each]


def find_data(options: Options, notebooks: Sequence[Notebook]) -> dict[str, Any]:
    """Make sure that the data are there, once, and give `Inputs.data`.

    Raises:
        UserError: if the data that were asked for cannot be had.
        OSError: if the process that looks for them was killed.
    """
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
        "images": len(splits.train) + len(splits.validation),
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
    names = [asked or "auto", *_own_backbones(options, notebooks)]
    try:
        return run_apart(load_weights, names, absolute_path(options.weights_file))
    except WeightsError as error:
        if asked == begun_with != "":
            raise WeightsError(
                f"the run was begun with the backbone {begun_with}, whose weights can no longer "
                f"be had: {error} Or name another folder with --out."
            ) from error
        raise


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
