"""Errors that a user can put right: the rule, what was received, what to do."""

import os
from pathlib import Path


class UserError(ValueError):
    """A mistake in what was asked for; shown as one message, without a traceback."""


class DataError(UserError):
    """A copy of a data set is missing, incomplete or not what it says it is."""


class DataUnavailable(DataError):
    """No copy of a data set was named, and none can be had."""


class WeightsError(UserError):
    """Backbone weights are missing, corrupt or do not fit the network."""


def user_path(text: str | os.PathLike) -> Path:
    """A path as a user writes it, with `~` for a home folder.

    Raises:
        UserError: if it begins with `~name` and there is no user of that name.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UserError(
            f"a path that begins with ~ must name a user's home folder; received {text}. "
            "Write the folder's whole path."
        ) from error
