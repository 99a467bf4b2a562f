import errno
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from cifar_helpers import cache
from cifar_helpers.errors import UserError


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAR_HELPERS_CACHE", str(tmp_path))
    return tmp_path / "arrays"


def _never():
    raise AssertionError("computed although it is cached")


def test_what_was_computed_once_is_read_again():
    first = cache.cached({"size": 96}, lambda: np.arange(6.0))
    np.testing.assert_array_equal(cache.cached({"size": 96}, _never), first)


def test_another_key_is_another_array():
    cache.cached({"size": 96}, lambda: np.zeros(3))
    np.testing.assert_array_equal(cache.cached({"size": 224}, lambda: np.ones(3)), np.ones(3))


def test_a_damaged_file_is_kept_apart_and_computed_anew(home, capsys):
    cache.cached({}, lambda: np.arange(1000))
    (path,) = home.glob("*.npy")
    path.write_bytes(path.read_bytes()[:500])
    np.testing.assert_array_equal(cache.cached({}, lambda: np.arange(1000)), np.arange(1000))
    assert list(home.glob("*.corrupt")) and "computed anew" in capsys.readouterr().out
    np.testing.assert_array_equal(cache.cached({}, _never), np.arange(1000))


def test_a_file_that_cannot_be_read_just_now_is_not_taken_for_damaged(home, monkeypatch):
    cache.cached({}, lambda: np.arange(6))

    def refuse(*arguments, **options):
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(np, "load", refuse)
        np.testing.assert_array_equal(cache.cached({}, lambda: np.arange(6)), np.arange(6))
    assert not list(home.glob("*.corrupt"))
    np.testing.assert_array_equal(cache.cached({}, _never), np.arange(6))


def test_the_longest_unused_file_makes_room(home, monkeypatch):
    monkeypatch.setattr(cache, "LIMIT", 3_000)
    for number in range(3):
        cache.cached({"n": number}, lambda: np.zeros(1_000, "uint8"))
        for age, path in enumerate(sorted(home.iterdir(), key=os.path.getmtime, reverse=True)):
            os.utime(path, (0, 1_000 - 10 * age))
    assert sum(path.stat().st_size for path in home.iterdir()) <= 3_000
    cache.cached({"n": 2}, _never)
    with pytest.raises(AssertionError):
        cache.cached({"n": 0}, _never)


def test_nothing_half_written_stays(home):
    def broken():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.cached({}, broken)
    assert not list(home.iterdir())
    np.testing.assert_array_equal(cache.cached({}, lambda: np.ones(2)), np.ones(2))


def test_two_who_want_the_same_arrays_share_the_work():
    computed = []
    both_at_work = threading.Barrier(2, timeout=30)

    def compute(number):
        computed.append(number)
        both_at_work.wait()
        return np.full(3, number)

    wanted = [({"n": number}, partial(compute, number)) for number in range(2)]
    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(cache.cached_all, [wanted, wanted]):
            np.testing.assert_array_equal(found, [[0, 0, 0], [1, 1, 1]])
    assert sorted(computed) == [0, 1]


def test_what_a_killed_process_was_computing_is_computed_by_the_next(home):
    script = "import os; from cifar_helpers import cache; cache.cached({}, lambda: os._exit(0))"
    subprocess.run([sys.executable, "-c", script], check=True)
    assert [path.suffix for path in home.iterdir()] == [".lock"]
    np.testing.assert_array_equal(cache.cached({}, lambda: np.ones(2)), np.ones(2))
    assert [path.suffix for path in home.iterdir()] == [".npy"]


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CIFAR_HELPERS_CACHE", str(tmp_path / "file"))
    np.testing.assert_array_equal(cache.cached({}, lambda: np.ones(2)), np.ones(2))
    assert "continuing without it" in capsys.readouterr().out


def test_a_home_folder_that_is_nobodys_is_said(monkeypatch):
    monkeypatch.setenv("CIFAR_HELPERS_CACHE", "~nobody-of-that-name/cache")
    with pytest.raises(UserError, match="must name a user's home folder"):
        cache.folder()


def test_the_command_line_says_so_too(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["cache"])
    monkeypatch.setenv("CIFAR_HELPERS_CACHE", "~nobody-of-this-name/cache")
    assert cache.main() == 2
    assert "cache: error: a path that begins with ~" in capsys.readouterr().err


def test_a_folder_that_cannot_be_read_is_said_too(home, monkeypatch, capsys):
    home.write_text("no folder")
    monkeypatch.setattr(sys, "argv", ["cache"])
    assert cache.main() == 2
    assert "cache: error:" in capsys.readouterr().err


def test_clear_empties_it(home):
    cache.cached({}, lambda: np.zeros(1_000, "uint8"))
    assert cache.clear() > 1_000
    assert list(home.iterdir()) == []


def _fill(home, **sizes):
    """Files of the cache by name; those named first were not used for longest."""
    home.mkdir(parents=True)
    for age, (name, size) in enumerate(sizes.items()):
        (home / f"{name}.npy").write_bytes(bytes(size))
        os.utime(home / f"{name}.npy", (0, 1_000 + age))


def _names(home):
    return {path.name for path in home.iterdir()}


def test_a_file_that_another_process_evicts_in_between_does_no_harm(home, monkeypatch, capsys):
    _fill(home, gone=1_000, other=1_000)
    look = Path.stat

    def stat(self, **options):
        if self.name == "gone.npy":
            self.unlink(missing_ok=True)
        return look(self, **options)

    monkeypatch.setattr(Path, "stat", stat)
    cache.cached({}, lambda: np.arange(3))
    assert capsys.readouterr().out == ""
    np.testing.assert_array_equal(cache.cached({}, _never), np.arange(3))


def test_what_another_process_is_writing_is_neither_evicted_nor_counted(home, monkeypatch):
    _fill(home, oldest=1_000)
    partial = home / ".x.npy.1.partial"
    partial.write_bytes(bytes(2_500))
    monkeypatch.setattr(cache, "LIMIT", 3_000)
    cache.cached({}, lambda: np.zeros(1_000, "uint8"))
    assert partial.exists() and "oldest.npy" in _names(home)


def test_what_a_killed_process_was_writing_is_evicted(home, monkeypatch):
    home.mkdir(parents=True)
    partial = home / ".x.npy.1.partial"
    partial.write_bytes(bytes(2_500))
    os.utime(partial, (0, 0))
    monkeypatch.setattr(cache, "LIMIT", 3_000)
    cache.cached({}, lambda: np.zeros(1_000, "uint8"))
    assert not partial.exists()


def test_an_array_above_the_limit_neither_empties_the_cache_nor_is_written(home, monkeypatch):
    _fill(home, other=1_000)
    monkeypatch.setattr(cache, "LIMIT", 3_000)
    np.testing.assert_array_equal(cache.cached({}, lambda: np.zeros(9_000, "uint8")), 0)
    assert _names(home) == {"other.npy"}


def test_a_mapped_file_that_cannot_be_removed_is_passed_over(home, monkeypatch, capsys):
    _fill(home, mapped=1_000, free=1_000, recent=1_000)
    remove = Path.unlink

    def unlink(self, **options):
        if self.name == "mapped.npy":
            raise PermissionError(13, "The process cannot access the file")
        remove(self, **options)

    monkeypatch.setattr(Path, "unlink", unlink)
    monkeypatch.setattr(cache, "LIMIT", 3_200)
    cache.cached({}, lambda: np.zeros(1_000, "uint8"))
    assert {"mapped.npy", "recent.npy"} < _names(home) and "free.npy" not in _names(home)
    assert capsys.readouterr().out == ""
    assert cache.clear() < 2_200
    assert _names(home) == {"mapped.npy"}


def test_a_digest_is_of_the_content_however_it_lies_in_memory():
    assert cache.digest(np.arange(6)[::2]) == cache.digest(np.array([0, 2, 4]))
    assert cache.digest(np.arange(6)[::2]) != cache.digest(np.array([0, 1, 2]))
