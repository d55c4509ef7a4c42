"""Published weights: found in a folder, downloaded with consent alone, or a message says which file goes where."""

from __future__ import annotations

import io
import sys
import urllib.error
from pathlib import Path
from typing import Any, ClassVar

import pytest

from utils.errors import InputError
from utils.weights import Weights, ensure_weights, find_weights, library, require_library, weights_folder


@pytest.fixture
def published(tmp_path: Path) -> dict[str, str]:
    """Return two files and where they are published."""
    (tmp_path / "hub").mkdir()
    for name in ("config.json", "net.pth"):
        (tmp_path / "hub" / name).write_text(f"content of {name}")
    return {name: (tmp_path / "hub" / name).as_uri() for name in ("config.json", "net.pth")}


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def no_network(*_: Any, **__: Any) -> Any:
    raise urllib.error.URLError("no route to host")


def test_free_weights_are_downloaded_once(published: dict[str, str], tmp_path: Path) -> None:
    free = Weights("net", published, "BSD-3-Clause", free=True)
    assert find_weights(str(tmp_path), free) == []
    found = ensure_weights(str(tmp_path), free, accept_license=False)
    assert found == [tmp_path / "net" / "config.json", tmp_path / "net" / "net.pth"]
    assert found[1].read_text() == "content of net.pth"
    found[1].write_text("mine")
    assert ensure_weights(str(tmp_path), free, accept_license=False)[1].read_text() == "mine"
    assert not list((tmp_path / "net").glob("*.partial"))


def test_other_weights_need_the_flag(
    published: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound = Weights("net", published, "non-commercial research only", free=False)
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))  # nobody sits there
    with pytest.raises(InputError) as caught:
        ensure_weights(str(tmp_path), bound, accept_license=False)
    error = caught.value
    assert "non-commercial research only" in error.expected
    assert "--accept_license" in error.do
    assert str(tmp_path / "net" / "config.json") in error.do
    assert published["net.pth"] in error.do
    monkeypatch.undo()
    assert len(ensure_weights(str(tmp_path), bound, accept_license=True)) == 2


@pytest.mark.parametrize(("answer", "accepted"), [("y\n", True), ("yes\n", True), ("\n", False), ("", False)])
def test_whoever_sits_at_a_terminal_is_asked(
    answer: str, accepted: bool, published: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound = Weights("net", published, "non-commercial research only", free=False)
    asked = _Terminal()
    monkeypatch.setattr(sys, "stdin", _Terminal(answer))
    monkeypatch.setattr(sys, "stderr", asked)
    if accepted:
        assert len(ensure_weights(str(tmp_path), bound, accept_license=False)) == 2
    else:
        with pytest.raises(InputError, match="not accepted"):
            ensure_weights(str(tmp_path), bound, accept_license=False)
    assert "non-commercial research only" in asked.getvalue()


def test_files_that_are_there_need_no_consent(published: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    for name in published:
        (tmp_path / "net" / name).write_text("given")
    bound = Weights("net", published, "non-commercial research only", free=False)
    assert len(ensure_weights(str(tmp_path), bound, accept_license=False)) == 2


def test_without_a_network_the_message_says_what_goes_where(
    published: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "config.json").write_text("given")
    with pytest.raises(InputError) as caught:
        ensure_weights(str(tmp_path), Weights("net", published, "BSD", free=True), accept_license=False)
    error = caught.value
    assert "no route to host" in error.found
    assert f"{published['net.pth']} as {tmp_path / 'net' / 'net.pth'}" in error.do
    assert "config.json" not in error.do, "it is there"


def test_half_a_download_is_none(
    published: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Half(io.BytesIO):
        headers: ClassVar = {"Content-Length": "99"}

    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: Half(b"half"))
    free = Weights("net", published, "BSD", free=True)
    with pytest.raises(InputError, match="4 of 99 bytes"):
        ensure_weights(str(tmp_path), free, accept_license=False)
    assert find_weights(str(tmp_path), free) == []


def test_without_a_folder_the_users_cache_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert weights_folder("") == tmp_path / "specula" / "weights"
    assert weights_folder("~/nets") == Path.home() / "nets"


def test_a_missing_library_is_named_with_its_extra() -> None:
    with pytest.raises(InputError, match=r"pip install '.\[learned\]'"):
        require_library("no_such_library.part")
    assert library("json").dumps([1]) == "[1]"
