"""A run for its reader: a table in the terminal, a page for each notebook and an index."""

import base64
import hashlib
import io
import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jinja2

from cifar_helpers import models, recipes, results
from cifar_helpers.files import write_text
from cifar_helpers.runner.options import PATHS, with_use
from cifar_helpers.text import duration, first_line

if TYPE_CHECKING:
    from cifar_helpers.plotting.style import DescribedFigure

# Pages


def write_pages(folder: Path, record: dict, found: "Results") -> None:
    """Write `html/NN_name.html` of each executed notebook and `html/index.html`.

    Args:
        folder: the run's.
        record: the content of `run.json`; each notebook's entry is given its `page`.
        found: the run's results.
    """
    (folder / "html").mkdir(exist_ok=True)
    pages: list[Page] = []
    for name, entry in sorted(record["notebooks"].items()):
        path = folder / (entry.get("output") or "")
        if path.is_file():
            pages.append(Page(path, f"{name}.html", _title(path) or name))
            entry.update(page=pages[-1].name, title=pages[-1].title)
    neighbours = zip(pages, [None, *pages], [*pages[1:], None], strict=False)
    for page, before, after in neighbours:
        write_notebook_page(folder / "html" / page.name, page, before, after)
    write_text(folder / "html" / "index.html", index_page(folder.name, record, found))


class Page(NamedTuple):
    """A notebook's page.

    Attributes:
        notebook: the executed notebook.
        name: the file's.
        title: as links to it say.
    """

    notebook: Path
    name: str
    title: str


def write_notebook_page(path: Path, page: Page, before: Page | None, after: Page | None) -> None:
    """Write an executed notebook as one self-contained HTML page, unless it is written already.

    Args:
        path: where to.
        page: the notebook.
        before: the page that it links to as the one before it.
        after: the page that it links to as the next one.
    """
    import nbformat
    from nbconvert import HTMLExporter

    content, template = page.notebook.read_text(encoding="utf-8"), _template("notebook")
    made_from = hashlib.sha256(f"{content}{template}{before}{after}".encode()).hexdigest()
    if path.exists() and made_from in path.read_text(encoding="utf-8"):
        return
    exporter = HTMLExporter(
        raw_template=template,
        embed_images=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
    )
    resources = {
        "metadata": {"name": page.title, "path": str(page.notebook.parent)},
        "made_from": made_from,
        "before": before,
        "after": after,
    }
    html, _ = exporter.from_notebook_node(nbformat.reads(content, as_version=4), resources)
    write_text(path, html)


def index_page(name: str, record: dict, found: "Results") -> str:
    """The run's front page, self-contained HTML; arguments as of `write_pages`."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["duration"] = duration
    data = record["data"]
    return environment.from_string(_template("index")).render(
        subject=data.get("subject", "CIFAR-10"),
        name=name,
        run=record,
        rows=found.rows,
        marks=results.mark_lines(found.sources),
        figure=_picture(found.sources),
        machines=found.machines,
        several=any(row["seeds"] != "1" for row in found.rows),
        original=any("original" in row for row in found.rows),
        best_backbone=next(iter(models.BACKBONES)),
        command=_command(record["arguments"]),
    )


def _template(name: str) -> str:
    return Path(__file__).with_name(f"{name}.html.j2").read_text(encoding="utf-8")


def _title(path: Path) -> str:
    """The first heading of a notebook."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    sources = ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    found = (re.match(r"#\s+(.+)", source) for source in sources)
    return next((match[1].strip() for match in found if match), "")


def _command(arguments: dict) -> str:
    """The command line, without what says nothing about the results, such as which notebooks."""
    words = ["python", "run_all.py"]
    quick = recipes.is_quick(arguments.get("epochs") or 0)
    for name, value in arguments.items():
        # Left out in the full study, the precision is float32.
        says_more = value != "auto" or (name == "precision" and not quick)
        if name in with_use("parameter") and says_more:
            value = Path(value).name if name in PATHS else value
            values = value if isinstance(value, list) else [value]
            words += ["--" + name.replace("_", "-"), *map(str, values)]
    for text in arguments.get("parameters", ()):
        words += ["-p", text]
    return shlex.join(words)


def accuracy_figure(found: Sequence[results.Result]) -> "DescribedFigure | None":
    """The test accuracy of every row of the study; None where there is none."""
    import matplotlib

    from cifar_helpers import plotting

    matplotlib.use("agg")  # figures go to files: no window
    plotting.use_style()
    rows = results.without_variants(list(found))
    return plotting.model_comparison(results.results_table(rows)) if rows else None


def _picture(found: Sequence[results.Result]) -> dict[str, str] | None:
    """The figure for a page: its PNG file in base 64, and in words."""
    figure = accuracy_figure(found)
    if figure is None:
        return None
    png = io.BytesIO()
    figure.savefig(png, bbox_inches="tight")
    return {"png": base64.b64encode(png.getvalue()).decode(), "alt": figure.alt_text}


class Results(NamedTuple):
    """What the records of a run hold for its report.

    Attributes:
        rows: as from `results.index_rows`.
        machines: what the trainings ran on, in words.
        problem: why records could not be read; else "".
        sources: the results that the rows are made from.
    """

    rows: list[dict]
    machines: list[str]
    problem: str = ""
    sources: Sequence[results.Result] = ()


def read_results(folder: Path) -> Results:
    """The results of a run's folder."""
    try:
        found = results.load_results(folder)
        return Results(results.index_rows(found), results.machines(found), sources=found)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Results([], [], f"The records could not be read: {first_line(error)}")


def print_results(rows: list[dict]) -> None:
    """The results in the terminal: one line an experiment."""
    columns = ("network", "recipe", "test accuracy", "95 % interval", "original")
    results.print_table(rows, columns)
