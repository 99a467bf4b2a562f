"""Arrays that cost minutes to compute, kept on disk from run to run.

A file's name is a digest of all that decides its content, so what is found is right. Its size is
limited: the files that were not used for longest go first. `python -m cifar_helpers.cache --clear`
empties it. Several processes may share it, and none computes what another is computing.
"""

import argparse
import contextlib
import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import filelock
import numpy as np
import pooch

from cifar_helpers import files
from cifar_helpers.errors import UserError, user_path

LIMIT = 8e9  # bytes
# A partial file that was not written to for as long is one of a process that was killed.
_ABANDONED = 3600  # seconds


def home() -> Path:
    """The folder of all that is kept from run to run: `CIFAR_HELPERS_CACHE` or the user's cache."""
    return user_path(os.environ.get("CIFAR_HELPERS_CACHE") or pooch.os_cache("cifar_helpers"))


def folder() -> Path:
    """The arrays' folder."""
    return home() / "arrays"


def digest(array: np.ndarray) -> str:
    """SHA-256 of an array's content, hexadecimal."""
    return hashlib.sha256(np.ascontiguousarray(array)).hexdigest()


def cached(key: dict, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """The array of a key: from disk if it is there, else computed and kept.

    The key is all that decides the content, as JSON takes it. An array that was read from disk is a
    read-only memory map.
    """
    return cached_all([(key, compute)])[0]


def cached_all(wanted: Sequence[tuple[dict, Callable[[], np.ndarray]]]) -> list[np.ndarray]:
    """The arrays of several keys, each as of `cached`.

    Processes that want the same arrays share the work: what another one is computing is waited for
    at the end.
    """
    found: dict[int, np.ndarray] = {}
    for wait in (False, True):
        for number, (key, compute) in enumerate(wanted):
            if number not in found and (array := _cached(key, compute, wait)) is not None:
                found[number] = array
    return [found[number] for number in range(len(wanted))]


def _cached(key: dict, compute: Callable[[], np.ndarray], wait: bool) -> np.ndarray | None:
    """The array of a key; None where another process is computing it, which may be waited for."""
    path = folder() / f"{files.json_hash(key)[:32]}.npy"
    found = _read(path)
    if found is None:
        with _lock(path.with_suffix(".lock"), wait) as ours:
            if not ours:
                return None
            found = _read(path)  # by a process that was waited for
            if found is None:
                found = compute()
                _keep(path, found)
    return found


@contextlib.contextmanager
def _lock(path: Path, wait: bool) -> Iterator[bool]:
    """Whether this process is to compute; it also is where no file can be written or locked."""
    lock = filelock.FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except filelock.Timeout:
        if not wait:
            yield False
            return
        print("Another process is computing what this one needs: waiting for it.")
        lock.acquire()
    except (OSError, NotImplementedError):
        pass
    try:
        yield True
    finally:
        if lock.is_locked:
            if os.name != "nt":  # there filelock does it
                with contextlib.suppress(OSError):
                    path.unlink()
            lock.release()


def _read(path: Path) -> np.ndarray | None:
    """The array in a file; None if it is not there or damaged."""
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        with contextlib.suppress(OSError):  # somebody else's file
            os.utime(path)
        return found
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError, EOFError) as error:
        print(f"{path.name} in the cache could not be read ({error}): computed anew.")
        if files.is_damage(error):
            with contextlib.suppress(OSError):
                os.replace(path, path.with_suffix(".corrupt"))
    return None


def _keep(path: Path, array: np.ndarray) -> None:
    """Write the array and make room; a cache that cannot be written is done without."""
    if array.nbytes > LIMIT:
        print(f"{array.nbytes / 1e9:.1f} GB are more than the cache takes: not kept.")
        return
    try:
        _make_room(LIMIT - array.nbytes)
        files.replace_file(path, lambda file: np.save(file, array))
    except OSError as error:
        print(f"The cache could not be written ({error.strerror}): continuing without it.")


def _make_room(limit: float) -> None:
    """Remove files, those first that were not used for longest, until the rest fits the limit."""
    found = sorted(_files())
    total = sum(size for _, size, _ in found)
    for _, size, path in found:
        if total <= limit:
            break
        with contextlib.suppress(PermissionError):  # mapped by a process, on Windows
            path.unlink(missing_ok=True)
            total -= size


def _files() -> list[tuple[float, int, Path]]:
    """Time of last use, bytes and path of each file but those that a process is at work on."""
    found = []
    for path in folder().iterdir() if folder().exists() else ():
        with contextlib.suppress(FileNotFoundError):  # another process was quicker
            state = path.stat()
            whole = path.suffix != ".partial" or time.time() - state.st_mtime > _ABANDONED
            if whole and path.suffix != ".lock" and path.is_file():
                found.append((state.st_mtime, state.st_size, path))
    return found


def _size() -> int:
    return sum(size for _, size, _ in _files())


def clear() -> int:
    """Remove all cached arrays; gives the number of bytes that are free again."""
    before = _size()
    _make_room(-1)
    return before - _size()


def main() -> int:
    """The command line; gives the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m cifar_helpers.cache",
        description="Says how large the cache of features is, and empties it.",
    )
    parser.add_argument(
        "--clear", action="store_true", help="remove them all; a downloaded CIFAR-10 stays"
    )
    asked = parser.parse_args()
    try:
        if asked.clear:
            print(f"{clear() / 1e6:,.0f} MB removed.")
        else:
            print(
                f"{len(_files())} files, {_size() / 1e6:,.0f} MB of at most {LIMIT / 1e6:,.0f} MB."
            )
    except (UserError, OSError) as error:
        print(f"cache: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
