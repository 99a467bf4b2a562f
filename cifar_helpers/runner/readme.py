"""What the README and docs/scaling.md say of results, made anew from the records."""

import base64
import json
from operator import methodcaller
from pathlib import Path

from cifar_helpers import recipes, results
from cifar_helpers.files import replace_file, write_text
from cifar_helpers.runner.estimates import makespan
from cifar_helpers.runner.report import accuracy_figure
from cifar_helpers.text import duration

SEEDS, MACHINES = 5, (1, 8, 64)  # of the projection


def update_readme(root: Path) -> None:
    """Make what the README and docs/scaling.md say of results anew, and the README's figures.

    Args:
        root: the project's folder, with `README.md`, `docs`, `results` and the executed `notebooks`.
    """
    found = results.without_variants(results.load_results(root))
    readme = root / "README.md"
    write_text(readme, with_results(readme.read_text(encoding="utf-8"), found))
    page = root / "docs" / "scaling.md"
    section = scaling_section(found)
    write_text(page, with_section(page.read_text(encoding="utf-8"), "projection", section))
    figure = accuracy_figure(found)
    assert figure is not None
    picture = root / "docs" / "accuracy.png"
    replace_file(picture, lambda file: figure.savefig(file, format="png", bbox_inches="tight"))
    for name, png in notebook_figures(root / "notebooks").items():
        replace_file(root / "docs" / f"{name}.png", methodcaller("write", png))


def notebook_figures(folder: Path) -> dict[str, bytes]:
    """The figures of executed notebooks that the README shows, as PNG files by name.

    They are those of the cells with a tag `readme-NAME`.
    """
    figures = {}
    for path in sorted(folder.glob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            names = [tag for tag in cell["metadata"].get("tags", []) if tag.startswith("readme-")]
            for name, output in zip(names, cell.get("outputs", []), strict=False):
                if png := output.get("data", {}).get("image/png"):
                    figures[name.removeprefix("readme-")] = base64.b64decode(png)
    return figures


def with_results(readme: str, found: list) -> str:
    """The README's text with what it says of results made anew, from results of one data set."""
    from cifar_helpers import narrative

    readme = with_section(readme, "results", narrative.results_section(found))
    return with_section(readme, "commands", narrative.commands_section(found))


def scaling_section(found: list) -> str:
    """How long the full study takes on several machines, as a table in Markdown.

    Args:
        found: the published results; each row counts with the mean of its trainings.
    """
    rows: dict[str, list[float]] = {}
    for result in found:
        if result.row in recipes.default_rows():
            seconds = results.training_seconds(result.record)
            rows.setdefault(results.row_label(result), []).append(seconds)
    means = {label: sum(each) / len(each) for label, each in rows.items()}
    all_seconds = [seconds for seconds in means.values() for _ in range(SEEDS)]
    longest = max(means, key=lambda label: means[label])
    lines = ["| machines | time | limited by |", "|---:|---:|---|"]
    for machines in MACHINES:
        taken = makespan(all_seconds, machines)
        by_longest = taken < 1.05 * means[longest]
        limit = (
            f"the longest training: {longest}, {duration(means[longest])}"
            if by_longest
            else f"the sum of all {len(all_seconds)} training runs"
        )
        lines.append(f"| {machines} | {duration(taken)} | {limit} |")
    return "\n".join(lines)


def with_section(readme: str, name: str, section: str) -> str:
    """The README's text with another section between the two markers of a name."""
    begin = readme.index("-->", readme.index(f"<!-- {name}:")) + len("-->")
    end = readme.index(f"<!-- end of {name} -->")
    return f"{readme[:begin]}\n{section}\n{readme[end:]}"


if __name__ == "__main__":
    update_readme(Path(__file__).resolve().parents[2])
