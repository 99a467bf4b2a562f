"""Files that appear whole or not at all, and names made from contents."""

import errno
import hashlib
import json
import os
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, BinaryIO


def replace_file(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write a file under a temporary name, then move it to `path`; if that fails leave nothing.

    Args:
        path: of the file; its folder is made.
        write: takes the open binary file.

    Raises:
        OSError: if it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            write(file)
            # Else the name may outlive a power cut, and the content not.
            file.flush()
            os.fsync(file.fileno())
        move(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def is_damage(error: BaseException) -> bool:
    """Whether an error in reading tells of a file's content, not of the machine's state.

    Too many open files, or no memory left, say nothing about the file.
    """
    known = getattr(error, "errno", None) in (None, errno.EINVAL)  # as of a seek to nowhere
    return known and not isinstance(error, MemoryError)


def move(source: Path, target: Path) -> None:
    """Move a file to a name that may be taken.

    Windows refuses while somebody reads the file of that name: it is tried again for a second.

    Raises:
        OSError: if it cannot be moved.
    """
    for pause in (0.01, 0.1, 0.3, 0.6):
        try:
            os.replace(source, target)
            return
        except PermissionError:
            time.sleep(pause)
    os.replace(source, target)


def now() -> str:
    """The time, as records and progress files hold it: ISO 8601, UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole."""
    replace_file(path, lambda file: file.write(json.dumps(content, indent=1).encode() + b"\n"))


def write_text(path: Path, text: str) -> None:
    """Write a text file, UTF-8, whole."""
    replace_file(path, lambda file: file.write(text.encode()))


def json_hash(content: Any) -> str:
    """A name for what can be written as JSON: hexadecimal SHA-256."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
