"""The page on speed, docs/speed.md, made from the JSON."""

import statistics
from pathlib import Path

from timing import ratio, ratios
from works import TASKS

from cifar_helpers import files
from cifar_helpers.runner import readme

PAGE = Path(__file__).resolve().parents[1] / "docs" / "speed.md"
LETTERS = "ABCDEFGHIJ"  # of the machines
MISSING = "–"


def write(machines: dict) -> None:
    """Put the section into the page."""
    text = PAGE.read_text(encoding="utf-8")
    files.write_text(PAGE, readme.with_section(text, "speed", section(machines)))


def section(machines: dict) -> str:
    """What was measured, as Markdown: the machines side by side, then one by one.

    Args:
        machines: the JSON.
    """
    names = "\n".join(
        _name(letter, *item) for letter, item in zip(LETTERS, machines.items(), strict=False)
    )
    about = (
        "Variants of the same work alternate on the same machine, and each ratio is the median of "
        f"the rounds' ratios ({_rounds(machines)} rounds), in brackets their range. *Ours* computes in the number format that `--precision auto` takes "
        "there. *PyTorch* is the fastest of float32 and bfloat16, channels last, fused optimizer, "
        "and, where marked, `torch.compile`. *Stock Keras* is compared with ours in one number "
        "format and oneDNN setting, XLA off, and is fed as ours; *as it comes* is its `fit` on arrays with "
        "TensorFlow's and Keras' own defaults for oneDNN and XLA, in float32, without the wait at "
        "an epoch's end. A ratio over 1 means that ours is faster; *over 3*, that the other took more than three times as long and was stopped; – means not measured. "
        "Each table was measured by itself, so that speeds of one task differ between them: a ratio "
        "compares what alternated."
    )
    parts = [about, names, _training_table(machines)]
    parts += filter(None, [_beside_table(machines), _other_figures(machines)])
    return "\n" + "\n\n".join(parts) + "\n"


def _rounds(machines: dict) -> str:
    """How many rounds the comparisons of the two tables had, as in "2 to 5"."""
    counts = set()
    for entry in machines.values():
        training = [row for task in entry.get("training", {}).values() for row in task.values()]
        counts |= {len(row["seconds"]) for row in training if row["seconds"]}
        counts |= {len(task["seconds"]["one"]) for task in entry.get("beside", {}).values()}
    return " to ".join(map(str, sorted({min(counts), max(counts)})))


def _name(letter: str, name: str, entry: dict) -> str:
    versions = entry["versions"]
    packages = [f"TensorFlow {versions['tensorflow']}", f"Keras {versions['keras']}"]
    if "cifar-helpers" in versions:
        packages.append(f"cifar-helpers {versions['cifar-helpers']}")
    if "torch" in versions:
        packages.append(f"PyTorch {versions['torch'].split('+')[0]}")
    return f"- **{letter}**: {name}; {', '.join(packages)}. {entry.get('note', '')}".rstrip()


def _table(lines: list[list[str]]) -> str:
    lines = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _training_table(machines: dict) -> str:
    heads = ["images a second", "machine", "ours", "format", "fastest PyTorch", "ours / PyTorch"]
    lines = [[*heads, "ours / stock Keras", "ours / as it comes", "ours / ours, other format"]]
    for name, task in TASKS.items():
        for letter, entry in zip(LETTERS, machines.values(), strict=False):
            if name in entry.get("training", {}):
                lines.append([task.label, letter, *_cells(entry["training"][name])])
    return _table(lines)


def _cells(rows: dict) -> list[str]:
    """What stands in a task's line: speeds, and how many times as fast ours is."""
    ours = rows["ours"]
    measured = {name: row for name, row in rows.items() if row["seconds"]}
    pytorch = [name for name in measured if name.startswith("PyTorch")]
    fastest = max(pytorch, key=lambda name: _speed(measured[name]), default=None)
    same = [name for name in measured if name.startswith("ours")]
    stock = rows.get("stock Keras")
    equal = next(
        (rows[x] for x in same if stock and rows[x]["precision"] == stock["precision"]), ours
    )
    other = next((name for name in rows if name.startswith("ours in")), "")
    return [
        f"{_speed(ours):,.0f}",
        ours["precision"],
        f"{_speed(rows[fastest]):,.0f} ({fastest.removeprefix('PyTorch ')})"
        if fastest
        else MISSING,
        _times(measured.get(fastest), ours),
        _times(measured.get("stock Keras"), equal),
        _times(measured.get("newcomer"), ours),
        "over 3" if other and other not in measured else _times(measured.get(other), ours),
    ]


def _speed(row: dict) -> float:
    return row["images"] / statistics.median(row["seconds"])


def _times(slow: dict | None, fast: dict) -> str:
    """How many times as fast the second is, with the rounds' range."""
    if not slow:
        return MISSING
    scale = slow["images"] / fast["images"]
    return _ratio([each / scale for each in ratios(slow["seconds"], fast["seconds"])])


def _ratio(of_rounds: list[float]) -> str:
    low, high = min(of_rounds), max(of_rounds)
    return f"**{statistics.median(of_rounds):.2f}** ({low:.2f} – {high:.2f})"


def _beside_table(machines: dict) -> str:
    lines = [["two training runs beside each other", "machine", "one", "two", "two / one"]]
    for name, task in TASKS.items():
        for letter, entry in zip(LETTERS, machines.values(), strict=False):
            found = entry.get("beside", {}).get(name)
            if found:
                one, two = found["seconds"]["one"], found["seconds"]["two"]
                speed = found["images"] / statistics.median(one)
                both = 2 * found["images"] / statistics.median(two)
                gain = _ratio([2 * each for each in ratios(one, two)])
                lines.append([task.label, letter, f"{speed:,.0f}", f"{both:,.0f}", gain])
    return _table(lines) if len(lines) > 1 else ""


def _other_figures(machines: dict) -> str:
    lines = []
    for letter, entry in zip(LETTERS, machines.values(), strict=False):
        lines += [f"- {letter}, {text}" for text in _texts(entry)]
    return "\n".join(lines)


def _texts(entry: dict) -> list[str]:
    texts = []
    if {"input", "feeding"} <= entry.keys():
        faster = ratio(entry["input"]["classic generator"], entry["input"]["reference"])
        shares = [100 * row["share"] for row in entry["feeding"].values()]
        texts.append(
            f"input: rotation, shift, zoom and flip of an epoch run {faster:.0f} times as fast as "
            "in Keras' classic per-image generator. Augmenting and feeding take "
            f"{min(shares):.1f} to {max(shares):.1f} % of an epoch."
        )
    if "transfer" in entry:
        taken = entry["transfer"]
        seconds = {name: statistics.median(rounds) for name, rounds in taken.items()}
        texts.append(
            "transfer learning, ten epochs of the head on 5,000 images at 96 pixels "
            f"(EfficientNet-Lite0): {seconds['plain']:.0f} s when every epoch runs the whole "
            f"network, {seconds['first time']:.1f} s when it runs once, "
            f"{seconds['from the cache']:.1f} s when an earlier run has left its features on disk."
        )
    if "growth" in entry:
        trainings = entry["growth"]["trainings"]
        small, large = trainings[0], next(row for row in trainings if row["images"] == 40_000)
        single, *_, several = [row for row in trainings if row["images"] == 10_000]
        texts.append(
            f"growth: an epoch of the baseline on {large['images']:,} images, start-up included, "
            f"takes {large['seconds'] / small['seconds']:.1f} times as long as on "
            f"{small['images']:,}, and {large['peak_memory'] / 1e9:.1f} GB of memory in place of "
            f"{small['peak_memory'] / 1e9:.1f}; {several['epochs']} epochs take "
            f"{several['peak_memory'] / single['peak_memory']:.2f} times the memory of one."
        )
    return texts
