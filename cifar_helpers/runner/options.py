"""What a user may ask of the runner: the arguments, and the checks made before anything starts."""

import ast
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

from cifar_helpers import recipes
from cifar_helpers.errors import UserError, user_path
from cifar_helpers.text import closest, listed

DATASETS = ("auto", "cifar10", "toy")
BACKBONES = ("auto", "efficientnetv2b0", "efficientnet-lite0")
PRECISIONS = ("auto", "float32", "bfloat16")
# Flags that are notebook parameters of the same name.
SHARED = (
    "dataset",
    "data_dir",
    "train_size",
    "epochs",
    "recipes",
    "seeds",
    "precision",
    "backbone",
    "image_size",
    "weights_file",
)
DEFAULTS = {
    "dataset": "auto",
    "backbone": "auto",
    "precision": "auto",
    "recipes": ("reference", "improved"),
}
# A quick pass has fewer seeds and other sizes than the full study.
DEFAULTS_QUICK = {"seeds": (0,)}
DEFAULTS_FULL = {"image_size": (96, 224)}
# Up to this cap on the epochs a run is a quick pass.
QUICK_EPOCHS = 10
# Notebooks with this number compare what the others recorded, and run when those have ended.
COMPARISON = "05"


@dataclass(frozen=True)
class Arguments:
    """What was asked for; None and empty values stand for "not given".

    Attributes:
        epochs: cap on the epochs of every training phase.
        notebooks: numbers ("1", "01") or names ("01_baseline_cnn") of those to run.
        dataset: one of `DATASETS`.
        data_dir: folder or archive with CIFAR-10.
        train_size: training images kept.
        seeds: one training of each recipe a seed.
        recipes: "reference", "improved" or names of single recipes.
        precision: one of `PRECISIONS`.
        backbone: one of `BACKBONES`.
        image_size: input sizes in pixels of the two transfer-learning reference recipes.
        weights_file: ImageNet weights of EfficientNetV2B0.
        parameters: further notebook parameters, each "NAME=VALUE".
        out: the run's folder.
        fresh: set the folder of an earlier run aside and begin anew.
        workers: notebooks that run at the same time.
        scheduler: address of a Dask scheduler that runs the notebooks.
        cell_timeout: seconds that one cell may take.
        html: write HTML pages at the end.
    """

    epochs: int | None = None
    notebooks: tuple[str, ...] = ()
    dataset: str | None = None
    data_dir: str | None = None
    train_size: int | None = None
    seeds: tuple[int, ...] | None = None
    recipes: tuple[str, ...] | None = None
    precision: str | None = None
    backbone: str | None = None
    image_size: tuple[int, ...] | None = None
    weights_file: str | None = None
    parameters: tuple[str, ...] = ()
    out: str | None = None
    fresh: bool = False
    workers: int = 1
    scheduler: str | None = None
    cell_timeout: int | None = None
    html: bool = True

    @property
    def is_quick(self) -> bool:
        """Whether the cap on the epochs makes it a quick pass."""
        return self.epochs is not None and self.epochs <= QUICK_EPOCHS

    @classmethod
    def from_namespace(cls, namespace) -> "Arguments":
        """Arguments from what `argparse` found; lists become tuples."""
        found = {field.name: getattr(namespace, field.name) for field in fields(cls)}
        return cls(**{name: _frozen(value) for name, value in found.items()})

    def given(self, names: Iterable[str] = SHARED) -> dict:
        """Those of `names` that were given, as plain values; defaults said aloud are left out."""
        values = {name: getattr(self, name) for name in names}
        defaults = DEFAULTS | (DEFAULTS_QUICK if self.is_quick else DEFAULTS_FULL)
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
            if value not in (None, ()) and value != defaults.get(name)
        }


@dataclass(frozen=True)
class Notebook:
    """A notebook of the study, by its file `NN_name.ipynb`."""

    path: Path

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem

    @property
    def number(self) -> str:
        """The two digits in front."""
        return self.name[:2]

    @property
    def is_comparison(self) -> bool:
        """Whether it reads the records of the others."""
        return self.number == COMPARISON

    @property
    def model(self) -> str | None:
        """The model that it trains, one of `recipes.MODELS`."""
        return next((model for model in recipes.MODELS if self.name[3:].startswith(model)), None)

    @cached_property
    def cells(self) -> list[dict]:
        """Its cells, as stored."""
        try:
            return json.loads(self.path.read_text(encoding="utf-8"))["cells"]
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{self.path.name} cannot be read as a notebook: {error}.") from error

    @cached_property
    def types(self) -> dict[str, str]:
        """The annotated type of each parameter, by name, in the order of the parameters cell."""
        import papermill  # here, because it takes a second and --help needs none of it

        found = papermill.inspect_notebook(str(self.path).replace("{", "{{").replace("}", "}}"))
        return {name: parameter["inferred_type_name"] for name, parameter in found.items()}


@dataclass(frozen=True)
class Request:
    """Arguments that have passed all checks.

    Attributes:
        arguments: with `-p` parameters that are flags moved to their fields.
        notebooks: those to run, in order.
        parameters: the other `-p` parameters.
        idle: names of notebooks left out because no recipe that was asked for is theirs.
    """

    arguments: Arguments
    notebooks: tuple[Notebook, ...]
    parameters: dict[str, object]
    idle: tuple[str, ...]


def check(arguments: Arguments, notebooks_dir: Path) -> Request:
    """Check everything that can be checked without loading data or Keras.

    Args:
        arguments: as given.
        notebooks_dir: folder with the study's notebooks.

    Returns:
        What to run.

    Raises:
        UserError: for the first value that will not do.
    """
    chosen = _choose(_find_notebooks(notebooks_dir), arguments.notebooks)
    arguments, parameters = _merge_parameters(arguments, chosen)
    _check_numbers(arguments)
    _check_choices(arguments)
    _check_seeds(arguments.seeds)
    _check_image_size(arguments.image_size)
    _check_paths(arguments)
    busy = tuple(notebook for notebook in chosen if _has_work(notebook, arguments.recipes))
    idle = tuple(notebook.name for notebook in chosen if notebook not in busy)
    if idle and (arguments.notebooks or not busy):
        raise UserError(
            f"--recipes names none of {listed(idle)}; received {listed(arguments.recipes)}. "
            f"Add one of its recipes or leave the notebook out."
        )
    return Request(arguments, busy, parameters, idle)


# Notebooks


def _find_notebooks(folder: Path) -> list[Notebook]:
    found = [Notebook(path) for path in sorted(Path(folder).glob("[0-9][0-9]_*.ipynb"))]
    if not found:
        raise UserError(f"No notebooks named NN_name.ipynb in {folder}; is the checkout complete?")
    return found


def _choose(known: list[Notebook], wanted: tuple[str, ...]) -> list[Notebook]:
    """The notebooks that were named, in order; all of them if none was."""
    keys = {key: notebook for notebook in known for key in (notebook.name, notebook.number)}
    chosen = set()
    for word in wanted:
        key = word.removesuffix(".ipynb")
        key = key.zfill(2) if key.isdigit() else key
        if key not in keys:
            names = listed(notebook.name for notebook in known)
            raise UserError(
                f"--notebooks takes numbers or names; there is no {word!r}."
                f"{'' if key.isdigit() else closest(key, keys)} Known: {names}."
            )
        chosen.add(keys[key].name)
    return [notebook for notebook in known if not wanted or notebook.name in chosen]


def _has_work(notebook: Notebook, wanted: tuple[str, ...] | None) -> bool:
    """Whether a notebook trains any of the wanted recipes; those without a model always run."""
    if wanted is None or notebook.model is None:
        return True
    return bool(recipes.select(notebook.model, list(wanted)))


# -p NAME=VALUE


def _merge_parameters(
    arguments: Arguments, notebooks: list[Notebook]
) -> tuple[Arguments, dict[str, object]]:
    """Parse `-p`; what is also a flag becomes that flag, so that the same checks hold for it."""
    if not arguments.parameters:
        return arguments, {}
    parsed: dict[str, object] = {}
    for text in arguments.parameters:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise UserError(f"-p takes NAME=VALUE; received {text!r}.")
        if name in parsed:
            raise UserError(f"-p {name} was given twice.")
        if name == "out":
            raise UserError("-p out is set by the runner; name the run's folder with --out.")
        parsed[name] = _parse(name, value, notebooks)
    twice = [name for name in parsed if name in SHARED and getattr(arguments, name) is not None]
    if twice:
        raise UserError(f"{_flag(twice[0])} and -p {twice[0]} say the same thing; give one.")
    flags = {name: _frozen(parsed.pop(name)) for name in SHARED if name in parsed}
    return replace(arguments, **flags), parsed


def _parse(name: str, text: str, notebooks: list[Notebook]) -> object:
    """The value of a parameter, as the type that the notebooks annotate it with."""
    types = {notebook.types[name] for notebook in notebooks if name in notebook.types}
    if not types:
        known = list(dict.fromkeys(key for notebook in notebooks for key in notebook.types))
        raise UserError(
            f"-p {name}: no notebook that is to run has this parameter."
            f"{closest(name, known)} Known: {listed(known)}."
        )
    value = None
    for kind in types:
        try:
            value = _literal(text, kind)
        except (ValueError, SyntaxError, TypeError):
            example = {"str": "text", "list": '"[0, 1]"', "bool": "True", "float": "0.5"}
            raise UserError(
                f"-p {name} must be of type {kind}, such as {name}={example.get(kind, '5')}; "
                f"received {text!r}."
            ) from None
    return value


def _literal(text: str, kind: str) -> object:
    """`text` read as a Python literal of the type; ValueError and the like if it is none."""
    if kind == "str" and text[:1] not in ("'", '"'):
        return text
    value = ast.literal_eval(text.capitalize() if kind == "bool" else text)
    if kind == "float" and type(value) is int:
        return float(value)
    allowed = {"int": int, "float": float, "str": str, "bool": bool, "list": (list, tuple)}
    wanted = allowed.get(kind.partition("[")[0])
    # bool is a subclass of int, but True is no number of epochs.
    if wanted and (not isinstance(value, wanted) or (wanted is int and isinstance(value, bool))):
        raise ValueError(text)
    return list(value) if isinstance(value, tuple) else value


# Values


def _check_numbers(arguments: Arguments) -> None:
    smallest = {"epochs": 1, "train_size": 10, "workers": 1, "cell_timeout": 1}
    for name, least in smallest.items():
        value = getattr(arguments, name)
        if value is not None and not _is_whole(value, least):
            advice = "" if name == "workers" else " Leave it out for no limit."
            raise UserError(
                f"{_flag(name)} must be a whole number of at least {least}; received {value!r}."
                f"{advice}"
            )


def _check_choices(arguments: Arguments) -> None:
    choices = {"dataset": DATASETS, "backbone": BACKBONES, "precision": PRECISIONS}
    for name, known in choices.items():
        value = getattr(arguments, name)
        if value is not None and value not in known:
            raise UserError(f"{_flag(name)} must be one of {listed(known)}; received {value!r}.")
    if arguments.recipes is None:
        return
    unknown = [word for word in arguments.recipes if word not in recipes.names()]
    if unknown or not arguments.recipes:
        word = str(unknown[0]) if unknown else ""
        raise UserError(
            f"--recipes must be among {listed(recipes.names())}; received {word!r}."
            f"{closest(word, recipes.names())}"
        )


def _check_seeds(seeds: tuple[int, ...] | None) -> None:
    if seeds is None:
        return
    # NumPy and Keras take 32 bits.
    fine = seeds and all(_is_whole(seed, 0) and seed < 2**32 for seed in seeds)
    if not fine or len(set(seeds)) < len(seeds):
        raise UserError(
            f"--seeds must be different whole numbers from 0 to 2**32 - 1; received {listed(seeds)}."
        )


def _check_image_size(sizes: tuple[int, ...] | None) -> None:
    if sizes is None:
        return
    fine = all(_is_whole(size, 32) and size <= 512 and size % 32 == 0 for size in sizes)
    if not fine or len(sizes) not in (1, 2) or list(sizes) != sorted(set(sizes)):
        raise UserError(
            "--image-size must be one size, or two with the smaller first, each a multiple of 32 "
            f"from 32 to 512; received {listed(sizes)}."
        )


def _check_paths(arguments: Arguments) -> None:
    """Files that must be there, and a folder that can be written."""
    for name in ("data_dir", "weights_file"):
        path = getattr(arguments, name)
        if path and not user_path(path).exists():
            raise UserError(
                f"{_flag(name)} must exist; there is no {path}. Correct the path, or leave the option out."
            )
    if arguments.weights_file and not user_path(arguments.weights_file).is_file():
        raise UserError(f"--weights-file must be a file; {arguments.weights_file} is a folder.")
    if arguments.weights_file and arguments.backbone == "efficientnet-lite0":
        raise UserError(
            "--weights-file holds weights of EfficientNetV2B0, but --backbone is efficientnet-lite0; "
            "leave one of them out."
        )
    if arguments.data_dir and arguments.dataset == "toy":
        raise UserError("--dataset toy is drawn, not read; leave --data-dir out.")
    if arguments.out is not None:
        _check_out(arguments.out)


def _check_out(out: str) -> None:
    path = user_path(out).absolute()
    if path.exists() and not path.is_dir():
        raise UserError(f"--out must be a folder; {out} is a file.")
    # Anything else in it could be overwritten, or moved away by --fresh.
    others = path.is_dir() and any(inner.name != "run.lock" for inner in path.iterdir())
    if others and not (path / "run.json").is_file():
        raise UserError(
            f"--out must be a new or empty folder, or that of an earlier run; {out} holds other files."
        )
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"--out must be a folder that can be written; {out} cannot.")


# Words


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _frozen(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value
