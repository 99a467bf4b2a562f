"""What a trained network sees in a picture of one's own."""

from IPython.display import Markdown
from matplotlib.figure import Figure

from cifar_helpers import plotting, predict, results
from cifar_helpers.errors import UserError, user_path


def plot_own_picture(picture: str, out: str = "") -> Figure | Markdown:
    """A picture as the best network sees it, with its three most probable classes.

    Args:
        picture: a file of any common format; "" for none.
        out: the run's folder, whose networks count before the published ones.

    Returns:
        The figure; a sentence where there is no picture, or none that can be read.
    """
    if not picture:
        return Markdown(
            "*Set `picture` in the first code cell to a file of yours, such as a JPEG. "
            "`python -m cifar_helpers.predict photo.jpg` does the same in a terminal.*"
        )
    try:
        (answer,) = predict.classify([picture], _with_network(out))
    except UserError as error:
        return Markdown(f"*{error}*")
    return plotting.answer(answer.seen, answer.classes, answer.confidences)


def describe_picture_network(out: str = "") -> Markdown:
    """Which network answers, and what it cannot know."""
    try:
        return Markdown(predict.describe_network(_with_network(out)))
    except UserError as error:
        return Markdown(f"*{error}*")


def _with_network(out: str) -> str:
    """The run's folder if it keeps a network of one of its records, else "" for the published."""
    kept = (user_path(out) / "models").glob("*.keras") if out else []
    return out if any(kept) and results.load_results(out) else ""
