"""How numbers and lists are worded, everywhere."""

import difflib
from collections.abc import Iterable

# In a table, what is not known or does not apply.
DASH = "\N{EN DASH}"


def percent(fraction: float) -> str:
    """A fraction as a percentage with one decimal: "88.1 %"."""
    return f"{100 * fraction:.1f} %"


def points(value: float) -> str:
    """Percentage points with their sign: "+2.5", "−0.6"."""
    rounded = round(value, 1) + 0.0  # no minus before a zero
    return f"{rounded:+.1f}".replace("-", "\N{MINUS SIGN}")


def interval(low: float, high: float) -> str:
    """The ends of an interval of fractions, in percent: "79.5 – 80.2"."""
    return f"{100 * low:.1f} \N{EN DASH} {100 * high:.1f}"


def points_interval(low: float, high: float) -> str:
    """The ends of an interval of a difference in percentage points: "+9.9 to +11.6"."""
    return f"{points(low)} to {points(high)}"


def count(value: float) -> str:
    """A whole number with commas: "315,722"."""
    return f"{value:,.0f}"


def loss(value: float) -> str:
    """A cross-entropy: "0.389"."""
    return f"{value:.3f}"


def loss_difference(value: float) -> str:
    """A difference of cross-entropies with its sign: "−0.29"."""
    value = round(value, 2) + 0.0  # no minus before a zero
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


def multiply_adds(value: float) -> str:
    """Multiply-adds of an image in millions: "125.7 M"."""
    return f"{value / 1e6:,.1f} M"


def duration(seconds: float) -> str:
    """Seconds in words that a reader takes in at a glance: "8 s", "12 min", "3 h 05 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def p_value(value: float) -> str:
    """A p-value with no more digits than it deserves."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def listed(values: Iterable) -> str:
    """Values with commas between them; "nothing" if there are none."""
    return ", ".join(str(value) for value in values) or "nothing"


def closest(word: str, known: Iterable[str]) -> str:
    """A question that names the known words most like a mistyped one, "" if none is."""
    near = difflib.get_close_matches(word, list(known), n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(near)}?" if near else ""


def first_line(message: object) -> str:
    """The first line of a message that is not empty, cut to 500 characters."""
    lines = [line.strip() for line in str(message).splitlines() if line.strip()]
    return lines[0][:500] if lines else ""
