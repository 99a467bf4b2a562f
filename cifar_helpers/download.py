"""Downloads that appear whole or not at all, once for all processes that ask together."""

import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import filelock
import pooch

from cifar_helpers.text import listed

ANSWER_SECONDS = 4.0  # what a source has to give any answer in
_READ_SECONDS = 30.0  # without a byte
_RETRIES = 2


def fetch(
    path: Path, urls: Sequence[str], *, known_hash: str, what: str, megabytes: int = 0
) -> None:
    """Download a file, unless it is there already, from the first source that has it.

    A machine without a network learns so in `ANSWER_SECONDS`.

    Args:
        path: of the file; its folder is made. One of another checksum is replaced, once the
            right one has arrived.
        urls: sources of the same bytes, in the order in which they are tried.
        known_hash: as of `is_whole`.
        what: what messages call the file.
        megabytes: its size, for the message at the start; 0 to leave it out.

    Raises:
        OSError: if it cannot be had. The text names each source with what went wrong, or the
            folder that cannot be written; it holds no local path, and no full stop at its end.
    """
    try:
        if is_whole(path, known_hash):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.with_name(f".{path.name}.lock")):
            if is_whole(path, known_hash):  # another process was quicker
                return
            tried = _try(path, urls, known_hash, what, megabytes)
    except OSError as error:
        raise OSError(
            f"The download of {what} needs a cache folder that can be written; received "
            f"{path.parent.name} ({_reason(error)})"
        ) from error
    if tried:
        raise OSError(f"{what} could not be downloaded; tried {listed(tried)}")


def is_whole(path: Path, known_hash: str) -> bool:
    """Whether a file is there and has the checksum, "sha256:..." or "md5:...", hexadecimal."""
    algorithm, _, digest = known_hash.partition(":")
    return path.is_file() and pooch.file_hash(str(path), alg=algorithm) == digest


def _try(path: Path, urls: Sequence[str], known_hash: str, what: str, megabytes: int) -> list[str]:
    """Download from the first source that will do; gives what went wrong, nothing if one did."""
    pooch.get_logger().setLevel("WARNING")  # its own message shows the user's folders
    answering = _answering(urls)
    download = pooch.HTTPDownloader(
        progressbar=sys.stderr.isatty(), chunk_size=2**16, timeout=(ANSWER_SECONDS, _READ_SECONDS)
    )
    tried = []
    for url in urls:
        host = urlsplit(url).hostname
        if url not in answering:
            tried.append(f"{host} (no answer)")
            continue
        size = f" ({megabytes} MB)" if megabytes else ""
        print(f"Downloading {what}{size} from {host}", file=sys.stderr)
        source = pooch.create(
            path.parent,
            base_url="",
            registry={path.name: known_hash},
            urls={path.name: url},
            retry_if_failed=_RETRIES,
        )
        try:
            source.fetch(path.name, downloader=download)
            return []
        except (OSError, ValueError) as error:  # pooch's ValueError: another checksum
            if _is_local(error):
                raise
            tried.append(f"{host} ({_reason(error)})")
    return tried


def _is_local(error: Exception) -> bool:
    """Whether the folder is at fault: the errors of requests bear no number."""
    network = isinstance(error, ConnectionError | TimeoutError)
    return isinstance(error, OSError) and error.errno is not None and not network


def _reason(error: Exception) -> str:
    """An error in words that hold no local path: they end up in reports."""
    if isinstance(error, ValueError) and not isinstance(error, OSError):
        return "another checksum"
    status = getattr(getattr(error, "response", None), "status_code", None)
    return getattr(error, "strerror", None) or (
        f"HTTP {status}" if status else type(error).__name__
    )


def _answering(urls: Sequence[str]) -> set[str]:
    """The addresses that give any answer in time, asked all at once.

    Name resolution keeps to no timeout of ours, so the questions are asked in daemon threads that
    are left behind when the time is up.
    """
    ask = pooch.HTTPDownloader(timeout=ANSWER_SECONDS)
    answered = set()

    def try_one(url: str) -> None:
        try:
            ask(url, None, None, check_only=True)
        except OSError:
            return
        answered.add(url)

    threads = [threading.Thread(target=try_one, args=(url,), daemon=True) for url in urls]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + ANSWER_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return set(answered)
