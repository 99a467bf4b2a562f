"""The study's notebooks: which there are, what they train, and which parameters they take."""

import ast
import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cifar_helpers import models, recipes
from cifar_helpers.errors import UserError
from cifar_helpers.text import closest, listed

# Wherever nbformat is imported, jsonschema would import this if it is installed, which takes more
# than a second; it checks a kind of text that no notebook's schema has.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Notebook:
    """A notebook of the study, by its file `NN_name.ipynb`."""

    path: Path

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem

    @property
    def model(self) -> str | None:
        """The model that it trains, as the table of models says."""
        trains = (name for name, model in models.MODELS.items() if model.notebook == self.name)
        return next(trains, None)

    @property
    def trains_a_plan(self) -> bool:
        """Whether it trains what `training.plan` makes of its parameters."""
        return any("training.plan(" in cell and "recipes" in cell for cell in self.code)

    @property
    def reads_records(self) -> bool:
        """Whether it reads the records of the others, as its metadata says."""
        metadata = self.content.get("metadata", {})
        return bool(metadata.get("cifar_helpers", {}).get("reads_records"))

    @property
    def code(self) -> list[str]:
        """Its code cells."""
        return [
            "".join(cell["source"]) for cell in self.content["cells"] if cell["cell_type"] == "code"
        ]

    @property
    def parameters(self) -> str:
        """The source of its parameters cell, "" if it has none."""
        cells = self.content["cells"]
        tagged = (each for each in cells if "parameters" in each["metadata"].get("tags", []))
        return "".join(next(tagged, {"source": ""})["source"])

    @cached_property
    def content(self) -> dict:
        """The notebook, as stored."""
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            content["cells"]
            return content
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self.path.name} cannot be read as a notebook: {error}.") from error

    @cached_property
    def types(self) -> dict[str, str]:
        """The annotated type of each parameter, by name, in the order of the parameters cell.

        As `papermill.inspect_notebook` gives them, without the time that its import takes.
        """
        found = {}
        with contextlib.suppress(SyntaxError):  # which the run will show
            for node in ast.parse(self.parameters).body:
                if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                    found[node.target.id] = ast.unparse(node.annotation)
                elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                    found[node.targets[0].id] = "None"
        return found


def literal_path(path: Path) -> str:
    """A path for papermill, which formats paths with parameters: braces are doubled."""
    return str(path).replace("{", "{{").replace("}", "}}")


def find_notebooks(folder: Path) -> list[Notebook]:
    """The notebooks of a folder, in order.

    Raises:
        UserError: if there is none.
    """
    found = [Notebook(path) for path in sorted(Path(folder).glob("[0-9][0-9]_*.ipynb"))]
    if not found:
        raise UserError(f"No notebooks named NN_name.ipynb in {folder}; is the checkout complete?")
    return found


def choose_notebooks(known: list[Notebook], wanted: Sequence[str]) -> list[Notebook]:
    """The notebooks that were named, in order; all of them if none was.

    Args:
        known: all there are.
        wanted: numbers ("1", "01") or names ("01_baseline_cnn").

    Raises:
        UserError: for a word that is none of them.
    """
    keys = {key: notebook for notebook in known for key in (notebook.name, notebook.name[:2])}
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


def with_wanted_recipes(
    chosen: list[Notebook], wanted: Sequence[str] | None, *, named: bool
) -> list[Notebook]:
    """Those of the chosen notebooks that train a wanted recipe, or have no model.

    Args:
        chosen: the notebooks to choose from.
        wanted: as of `recipes.select`; None for the default ones.
        named: whether the user named the notebooks, so that none may be left out.

    Raises:
        UserError: if none that trains is left, or one that was named is not.
    """
    if wanted is None:
        return chosen
    words = list(wanted)
    kept = [each for each in chosen if each.model is None or recipes.select(each.model, words)]
    idle = [each.name for each in chosen if each not in kept]
    if idle and (named or not any(each.model for each in kept)):
        raise UserError(
            f"--recipes names none of {listed(idle)}; received {listed(words)}. "
            "Add one of its recipes or leave the notebook out."
        )
    return kept
