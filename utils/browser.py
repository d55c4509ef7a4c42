"""Open a page in the browser where there is a display to show it on."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Mapping
from pathlib import Path


def has_display(platform: str = sys.platform, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a window can appear: always on macOS and Windows, elsewhere where X or Wayland says so."""
    if platform in ("darwin", "win32", "cygwin"):
        return True
    return bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))


def show_page(page: Path) -> str:
    """Open a page in the browser; return one line about what happened, with its path."""
    if not page.exists():
        return f"no page to open: {page} does not exist"
    if not has_display():
        return f"no display to open the page on: {page}"
    if not webbrowser.open(page.resolve().as_uri()):
        return f"no browser found to open the page: {page}"
    return f"opened {page}"
