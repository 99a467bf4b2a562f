import os

import numpy as np
import pytest

from cifar_helpers import cache


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


def test_a_damaged_file_is_set_aside_and_computed_anew(home, capsys):
    cache.cached({}, lambda: np.arange(1000))
    (path,) = home.glob("*.npy")
    path.write_bytes(path.read_bytes()[:500])
    np.testing.assert_array_equal(cache.cached({}, lambda: np.arange(1000)), np.arange(1000))
    assert list(home.glob("*.corrupt")) and "set aside" in capsys.readouterr().out
    np.testing.assert_array_equal(cache.cached({}, _never), np.arange(1000))


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
    assert not home.exists() or not list(home.iterdir())


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CIFAR_HELPERS_CACHE", str(tmp_path / "file"))
    np.testing.assert_array_equal(cache.cached({}, lambda: np.ones(2)), np.ones(2))
    assert "going on without it" in capsys.readouterr().out


def test_clear_empties_it(home):
    cache.cached({}, lambda: np.zeros(1_000, "uint8"))
    assert cache.clear() > 1_000
    assert list(home.iterdir()) == []


def test_digests_tell_arrays_apart():
    assert cache.digest(np.zeros(3)) != cache.digest(np.ones(3))
    assert cache.digest(np.arange(6)[::2]) == cache.digest(np.array([0, 2, 4]))
