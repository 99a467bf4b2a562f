"""A run for its reader: a table in the terminal, a page for each notebook and an index."""

import json
import os
import re
from pathlib import Path

import jinja2

from cifar_helpers.files import write_text
from cifar_helpers.text import duration, first_line

# Nothing is fetched from elsewhere: the pages open without a network, and in ten years.
_NOTEBOOK_TEMPLATE = """\
{% extends "lab/index.html.j2" %}
{% block html_head_js %}{% endblock %}
{% block html_head_js_mathjax %}{% endblock %}
{% block html_head_js_mermaidjs %}{% endblock %}
{% block extra_css %}
<link rel="icon" href="data:,">
<style>
  .page-bar { display: flex; justify-content: space-between; max-width: 70rem; margin: 0 auto;
    padding: 1rem 2rem 0 5rem; font: 14px system-ui, sans-serif; }
  .page-bar button { font: inherit; border: 1px solid #bbb; border-radius: 4px; background: #fff;
    cursor: pointer; }
  .jp-Notebook { max-width: 70rem; margin: 0 auto; }
  .jp-RenderedMarkdown pre, .jp-RenderedMarkdown code { font-family: monospace; }
  .without-code .jp-CodeCell .jp-Cell-inputWrapper { display: none; }
</style>
{% endblock %}
{% block body_header %}
{{ super() }}
<nav class="page-bar">
  <a href="index.html">&larr; all notebooks of this run</a>
  <button onclick="document.body.classList.toggle('without-code')">Show or hide code</button>
</nav>
{% endblock %}
"""


# Pages


def write_pages(folder: Path, record: dict, rows: list[dict]) -> None:
    """Write `html/NN_name.html` of each executed notebook and `html/index.html`.

    Args:
        folder: the run's.
        record: the content of `run.json`; each notebook's entry is given its `page`.
        rows: the results, as from `results_rows`.
    """
    (folder / "html").mkdir(exist_ok=True)
    for name, entry in record["notebooks"].items():
        output = entry.get("output")
        if not output or not (folder / output).exists():
            continue
        page = folder / "html" / f"{name}.html"
        # A page bears its notebook's time, so that a clock that was set back leaves no stale one.
        executed = (folder / output).stat().st_mtime_ns
        if not page.exists() or page.stat().st_mtime_ns != executed:
            write_text(page, notebook_page(folder / output))
            os.utime(page, ns=(executed, executed))
        entry["page"] = page.name
        entry["title"] = _title(folder / output) or name
    from cifar_helpers import results

    machines = results.machines(results.load_results(folder))
    write_text(folder / "html" / "index.html", index_page(folder.name, record, rows, machines))


def notebook_page(path: Path) -> str:
    """An executed notebook as one self-contained HTML page."""
    import nbformat
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(raw_template=_NOTEBOOK_TEMPLATE, embed_images=True)
    resources = {"metadata": {"name": _title(path) or path.stem, "path": str(path.parent)}}
    page, _ = exporter.from_notebook_node(nbformat.read(path, as_version=4), resources)
    return page


def index_page(name: str, record: dict, rows: list[dict], machines: list[str]) -> str:
    """The run's front page.

    Args:
        name: of the run.
        record: the content of `run.json`.
        rows: the results, as from `results_rows`.
        machines: what the trainings ran on.

    Returns:
        Self-contained HTML.
    """
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["duration"] = duration
    source = Path(__file__).with_name("index.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source).render(
        subject="the toy set" if record["data"] and not record["data"]["real"] else "CIFAR-10",
        name=name,
        run=record,
        rows=_with_marks(rows),
        machines=machines,
        several=any(row["seeds"] != "1" for row in rows),
        published=any("published" in row for row in rows),
        options=_options(record["arguments"]),
    )


def _title(path: Path) -> str:
    """The first heading of a notebook."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    sources = ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    found = (re.match(r"#\s+(.+)", source) for source in sources)
    return next((match[1].strip() for match in found if match), "")


def _options(arguments: dict) -> str:
    """The arguments as a command line, without what says nothing about the results."""
    words = ["python run_all.py"]
    hidden = ("fresh", "html", "workers", "scheduler", "out", "cell_timeout", "parameters")
    hidden += ("notebooks",)  # the page is about those of earlier sittings too
    for name, value in arguments.items():
        if name in hidden or value == "auto":
            continue
        value = Path(value).name if name in ("data_dir", "weights_file") else value
        values = value if isinstance(value, (list, tuple)) else [value]
        words.append(" ".join(["--" + name.replace("_", "-"), *map(str, values)]))
    words += [f"-p {text}" for text in arguments.get("parameters", ())]
    return " ".join(words)


def _with_marks(rows: list[dict]) -> list[dict]:
    """The rows with positions, in percent of the width, of their mark in a common chart."""
    ends = [end for row in rows for end in row["numbers"].values() if end is not None]
    if not ends:
        return rows
    low, high = max(0.0, min(ends) - 0.02), min(1.0, max(ends) + 0.02)

    def position(value: float | None) -> float | None:
        return None if value is None else round(100 * (value - low) / (high - low), 2)

    return [
        {**row, "marks": {key: position(value) for key, value in row["numbers"].items()}}
        for row in rows
    ]


# Results


def results_rows(folder: Path) -> tuple[list[dict], str]:
    """The rows of the results table, from the run's records.

    Args:
        folder: the run's.

    Returns:
        As from `results.index_rows`; and why there are none, if records could not be read, else "".
    """
    from cifar_helpers import results

    try:
        return results.index_rows(results.load_results(folder)), ""
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [], f"The records could not be read: {first_line(error)}"


def print_results(rows: list[dict]) -> None:
    """The results in the terminal: one line an experiment."""
    from cifar_helpers import results

    results.print_table(
        rows, ("network", "recipe", "test accuracy", "95 % interval", "over", "published")
    )


# The README


def update_readme(root: Path) -> None:
    """Make the README's results and how to reproduce them, and its figure, from `root`/results.

    Args:
        root: the project's folder, with `README.md`; the figure goes to `docs/accuracy.png`.
    """
    from cifar_helpers import narrative, plotting, results

    found = results.load_results(root)
    readme = root / "README.md"
    write_text(readme, with_results(readme.read_text(encoding="utf-8"), found))
    plotting.use_style()
    figure = plotting.model_comparison(narrative.comparison_rows(found))
    (root / "docs").mkdir(exist_ok=True)
    partial = root / "docs" / ".accuracy.partial.png"
    figure.savefig(partial, bbox_inches="tight")
    os.replace(partial, root / "docs" / "accuracy.png")


def with_results(readme: str, found: list) -> str:
    """The README's text with what it says of results made anew.

    Args:
        readme: the whole text.
        found: results of one data set.
    """
    from cifar_helpers import narrative

    readme = with_section(readme, "results", narrative.results_section(found))
    return with_section(readme, "commands", narrative.commands_section(found))


def with_section(readme: str, name: str, section: str) -> str:
    """The README's text with another section between the two markers of a name."""
    begin = readme.index("-->", readme.index(f"<!-- {name}:")) + len("-->")
    end = readme.index(f"<!-- end of {name} -->")
    return f"{readme[:begin]}\n{section}\n{readme[end:]}"


if __name__ == "__main__":
    update_readme(Path(__file__).resolve().parents[2])
