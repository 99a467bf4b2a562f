import errno
import hashlib
import threading
import time

import pooch
import pytest
import requests

from cifar_helpers import download

CONTENT = b"what the sources hold"
HASH = "md5:" + hashlib.md5(CONTENT).hexdigest()
URLS = ("https://first.example/file", "https://second.example/file")


@pytest.fixture
def serve(monkeypatch):
    """Gives a function that lets each host answer with bytes or an error; gives who was asked."""

    def start(first, second=CONTENT, head=lambda url: True):
        asked = []

        def answer(self, url, output_file, pooch, check_only=False):
            if check_only:
                return head(url)
            asked.append(url)
            given = first if url == URLS[0] else second
            if isinstance(given, Exception):
                raise given
            with open(output_file, "wb") as file:
                file.write(given)

        monkeypatch.setattr(pooch.HTTPDownloader, "__call__", answer)
        monkeypatch.setattr(pooch.core.time, "sleep", lambda seconds: None)
        return asked

    return start


def fetch(path):
    download.fetch(path, URLS, known_hash=HASH, what="the file")


def test_a_file_that_is_there_is_not_asked_for(serve, tmp_path):
    asked = serve(CONTENT)
    (tmp_path / "file").write_bytes(CONTENT)
    fetch(tmp_path / "file")
    assert asked == []


@pytest.mark.parametrize(
    "fault", [requests.ConnectionError("down"), b"something else"], ids=["down", "another checksum"]
)
def test_each_source_is_tried_three_times_and_then_the_next(serve, tmp_path, fault):
    asked = serve(fault)
    fetch(tmp_path / "new" / "file")
    assert (tmp_path / "new" / "file").read_bytes() == CONTENT
    assert asked == [URLS[0]] * 3 + [URLS[1]]


def test_the_error_names_each_source_and_what_went_wrong(serve, tmp_path):
    serve(requests.ConnectionError("down"), b"something else")
    with pytest.raises(OSError) as caught:
        fetch(tmp_path / "file")
    assert str(caught.value) == (
        "the file could not be downloaded; tried first.example (ConnectionError), "
        "second.example (another checksum)"
    )
    assert not (tmp_path / "file").exists()


def test_a_missing_page_is_named_by_its_status(serve, tmp_path):
    response = requests.Response()
    response.status_code = 404
    serve(requests.HTTPError("not there", response=response), b"")
    with pytest.raises(OSError, match=r"first.example \(HTTP 404\)"):
        fetch(tmp_path / "file")


def test_a_file_of_another_checksum_is_replaced(serve, tmp_path):
    serve(CONTENT)
    (tmp_path / "file").write_bytes(CONTENT[:-1])
    fetch(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_it_is_kept_where_the_download_fails(serve, tmp_path):
    serve(b"", b"")
    (tmp_path / "file").write_bytes(CONTENT[:-1])
    with pytest.raises(OSError, match="could not be downloaded"):
        fetch(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT[:-1]


def test_a_full_disk_is_said_at_once_without_the_path(serve, tmp_path):
    asked = serve(OSError(errno.ENOSPC, "No space left on device", str(tmp_path)))
    with pytest.raises(OSError, match="cache folder that can be written.*No space left") as caught:
        fetch(tmp_path / "cache" / "file")
    assert str(tmp_path) not in str(caught.value) and len(asked) == 1


def test_a_cache_that_is_a_file_is_said(serve, tmp_path):
    serve(CONTENT)
    (tmp_path / "cache").write_text("")
    with pytest.raises(OSError, match=r"needs a cache folder .* received cache \("):
        fetch(tmp_path / "cache" / "file")


def test_processes_that_ask_together_download_once(serve, tmp_path):
    asked = serve(CONTENT)
    threads = [threading.Thread(target=fetch, args=(tmp_path / "file",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert asked == [URLS[0]]


def test_without_a_network_the_download_is_given_up_in_seconds(serve, monkeypatch, tmp_path):
    """Name resolution may hang for minutes: all sources together get one time."""
    monkeypatch.setattr(download, "ANSWER_SECONDS", 0.2)
    hang = threading.Event()
    asked = serve(CONTENT, head=lambda url: hang.wait(60))
    start = time.monotonic()
    with pytest.raises(OSError, match=r"first.example \(no answer\), second.example \(no answer\)"):
        fetch(tmp_path / "file")
    hang.set()
    assert time.monotonic() - start < 5 and asked == []


def test_the_start_says_what_and_how_much(serve, tmp_path, capsys):
    serve(CONTENT)
    download.fetch(tmp_path / "file", URLS, known_hash=HASH, what="the file", megabytes=170)
    assert "Downloading the file (170 MB) from first.example" in capsys.readouterr().err
