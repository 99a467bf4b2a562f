"""Tables and lists as notebooks display them."""

from collections.abc import Iterable

import pandas as pd
from IPython.display import HTML, Markdown
from pandas.io.formats.style import Styler


def to_html(table: pd.DataFrame | Styler, name: str) -> HTML:
    """A DataFrame, without its index, or a styled one as HTML that is the same each time.

    Args:
        table: a DataFrame or its Styler. pandas would draw a random name for it.
        name: the page's only one: the style of one table would show in its namesakes.
    """
    styled = table.style.hide(axis="index") if isinstance(table, pd.DataFrame) else table
    # Notebooks set every column flush right, which is for numbers.
    text = styled.data.astype(str)
    left = [{"selector": "", "props": "text-align: left"}]
    words = {column: left for column in text if text[column].str[:1].str.isalpha().any()}
    return HTML(styled.set_table_styles(words, overwrite=False).set_uuid(name).to_html())


def bullets(lines: Iterable[str]) -> Markdown:
    """The sentences that are not empty, one a bullet."""
    return Markdown("\n".join(f"- {line}" for line in lines if line))
