"""A page is opened where there is a display, and its path is said elsewhere."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import pytest

import run as program
from utils import browser
from utils.options import parse_options
from utils.reference_flags import RETIRED
from utils.stages import stage_record


@pytest.mark.parametrize(
    ("platform", "environment", "shown"),
    [
        ("linux", {}, False),
        ("linux", {"DISPLAY": ""}, False),
        ("linux", {"DISPLAY": ":0"}, True),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, True),
        ("darwin", {}, True),
        ("win32", {}, True),
    ],
)
def test_displays_are_known_by_platform_and_environment(
    platform: str, environment: dict[str, str], shown: bool
) -> None:
    assert browser.has_display(platform, environment) is shown


def test_the_page_is_opened_or_its_path_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "report page.html"
    opened: list[str] = []

    def note(address: str) -> bool:
        opened.append(address)
        return True

    monkeypatch.setattr(webbrowser, "open", note)
    assert browser.show_page(page) == f"no page to open: {page} does not exist"
    page.touch()
    monkeypatch.setattr(browser, "has_display", lambda: False)
    assert browser.show_page(page) == f"no display to open the page on: {page}"
    assert opened == []
    monkeypatch.setattr(browser, "has_display", lambda: True)
    assert browser.show_page(page) == f"opened {page}"
    assert opened == [page.as_uri()]
    monkeypatch.setattr(webbrowser, "open", lambda _: False)
    assert browser.show_page(page) == f"no browser found to open the page: {page}"


def test_the_flag_changes_no_stamp(tmp_path: Path) -> None:
    words = ["--expname", "x", "--basedir", str(tmp_path)]
    without, _ = parse_options(program.SECTIONS, RETIRED, words)
    given, _ = parse_options(program.SECTIONS, RETIRED, [*words, "--open"])
    assert given["experiment"].open_page
    assert not without["experiment"].open_page
    for stage in program.STAGES:
        inputs = dict.fromkeys(stage.reads, "")
        assert stage_record(stage, given[stage.name], inputs) == stage_record(stage, without[stage.name], inputs)
