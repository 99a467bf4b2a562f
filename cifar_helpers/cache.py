"""Arrays that cost minutes to compute, kept on disk from run to run.

A file's name is a digest of all that decides its content, so what is found is right. Its size is
limited: the files that were not used for longest go first. `python -m cifar_helpers.cache --clear`
empties it.
"""

import argparse
import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

LIMIT = 8e9  # bytes


def folder() -> Path:
    """The cache's folder: in `CIFAR_HELPERS_CACHE`, or in the user's cache."""
    import pooch

    home = os.environ.get("CIFAR_HELPERS_CACHE") or pooch.os_cache("cifar_helpers")
    return Path(home).expanduser() / "arrays"


def digest(array: np.ndarray) -> str:
    """SHA-256 of an array's content, hexadecimal."""
    return hashlib.sha256(np.ascontiguousarray(array)).hexdigest()


def cached(key: dict, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """The array of a key: from disk if it is there, else computed and kept.

    Args:
        key: all that decides the content, as JSON takes it.
        compute: makes the array.

    Returns:
        The array; read from disk it is a read-only memory map.
    """
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    path = folder() / f"{name}.npy"
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        with contextlib.suppress(OSError):  # somebody else's file
            os.utime(path)
        return found
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError, EOFError) as error:
        print(f"{path.name} in the cache could not be read ({error}): set aside, computed anew.")
        with contextlib.suppress(OSError):
            os.replace(path, path.with_suffix(".corrupt"))
    array = compute()
    _keep(path, array)
    return array


def _keep(path: Path, array: np.ndarray) -> None:
    """Write the array and make room; a cache that cannot be written is done without."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _make_room(path.parent, LIMIT - array.nbytes)
        with open(partial, "wb") as file:
            np.save(file, array)
        os.replace(partial, path)
    except OSError as error:
        print(f"The cache could not be written ({error.strerror}): going on without it.")
    finally:
        with contextlib.suppress(OSError):  # it was moved, or never made
            partial.unlink()


def _make_room(home: Path, limit: float) -> None:
    """Remove files, those first that were not used for longest, until the rest fits the limit."""
    files = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in home.iterdir())
    total = sum(size for _, size, _ in files)
    for _, size, path in files:
        if total <= limit:
            break
        path.unlink(missing_ok=True)
        total -= size


def clear() -> int:
    """Remove everything from the cache; gives the number of bytes that are free again."""
    home = folder()
    total = sum(path.stat().st_size for path in home.iterdir()) if home.exists() else 0
    if home.exists():
        _make_room(home, -1)
    return total


def main() -> None:
    """The command line: how large the cache is, and a way to empty it."""
    parser = argparse.ArgumentParser(prog="python -m cifar_helpers.cache", description=main.__doc__)
    parser.add_argument("--clear", action="store_true", help="remove everything")
    if parser.parse_args().clear:
        print(f"{clear() / 1e6:,.0f} MB removed.")
        return
    files = list(folder().iterdir()) if folder().exists() else []
    total = sum(path.stat().st_size for path in files)
    print(f"{len(files)} files, {total / 1e6:,.0f} MB of at most {LIMIT / 1e6:,.0f} MB.")


if __name__ == "__main__":
    main()
