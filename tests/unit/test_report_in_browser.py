"""The report page in headless Chromium: no errors, nothing requested, every picture visible, the surface drawn."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.finished_run import Example

STAGE_BGR = (0x31, 0x2D, 0x26)  # what the viewer is drawn on, in the light theme
BINARIES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--enable-logging=stderr", "--hide-scrollbars"),
    *("--virtual-time-budget=5000", "--window-size=1200,6000"),
]
WEBGL = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
# Put at the end of a copy of the page: uses the viewer as hands would (a made-up pointer cannot be captured), and
# says what the browser made of the page in the title, which --dump-dom prints.
PROBE = """<script>addEventListener("load", () => {
  const canvas = document.querySelector("canvas");
  canvas.setPointerCapture = () => {};
  const hand = (kind, x) => new PointerEvent(kind, { pointerId: 1, clientX: x, clientY: 20, bubbles: true });
  for (const [kind, x] of [["pointerdown", 0], ["pointermove", 25], ["pointerup", 25]])
    canvas.dispatchEvent(hand(kind, x));
  canvas.dispatchEvent(new WheelEvent("wheel", { deltaY: 40, cancelable: true }));
  for (const key of ["ArrowLeft", "ArrowUp", "+", "-", "a"])
    canvas.dispatchEvent(new KeyboardEvent("keydown", { key }));
  if (!canvas.hidden) for (const button of document.querySelectorAll(".tools button")) button.click();
  document.title = JSON.stringify({
  unseen: [...document.images].filter((one) => !one.hidden && !one.naturalWidth).length,
  images: document.images.length,
  requested: performance.getEntriesByType("resource").filter((one) => !one.name.startsWith("data:")).length,
  canvas: !document.querySelector("canvas").hidden, still: !document.querySelector(".still").hidden,
  wider: document.documentElement.scrollWidth > document.documentElement.clientWidth,
}); });</script>"""


def browser() -> str:
    found = next((path for name in BINARIES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no Chromium here: none of {', '.join(BINARIES)} is on the path")
    return found


def show(page: Path, profile: Path, *words: str) -> tuple[str, list[str]]:
    """Return what the browser prints, and the messages on the page's console but for the driver's own."""
    command = [browser(), *FLAGS, f"--user-data-dir={profile}", *words, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout, [line for line in console if "GL Driver Message (OpenGL, Performance" not in line]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    browser()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("importlib.util.find_spec", lambda _: None)
        example = Example(tmp_path_factory.mktemp("browser"))
        example.write_cloud(20_000)
        text = example.evaluate()
    path = example.logs / "evaluation" / "probe.html"
    path.write_text(text.replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    return path


def test_the_page_shows_everything_without_errors(page: Path, tmp_path: Path) -> None:
    picture = tmp_path / "page.png"
    printed, console = show(page, tmp_path / "profile", *WEBGL, "--dump-dom", f"--screenshot={picture}")
    assert console == []
    seen = json.loads(re.search(r"<title>(.*?)</title>", printed)[1])  # type: ignore[index]
    assert seen["images"] > 20
    assert (seen["unseen"], seen["requested"], seen["wider"]) == (0, 0, False)
    assert (seen["canvas"], seen["still"]) == (True, False)
    shot = cv2.imread(str(picture))
    assert shot is not None
    stage = np.abs(shot.astype(int) - STAGE_BGR).max(axis=-1) < 3
    rows, columns = np.flatnonzero(stage.sum(axis=1) > 300), np.flatnonzero(stage.sum(axis=0) > 100)
    middle = stage[(rows[0] + rows[-1]) // 2 - 60 :, (columns[0] + columns[-1]) // 2 - 60 :][:120, :120]
    assert middle.mean() < 0.6  # the cloud covers the middle of the stage


def test_without_webgl_a_still_picture_stands_there(page: Path, tmp_path: Path) -> None:
    printed, console = show(page, tmp_path / "profile", "--disable-3d-apis", "--dump-dom")
    assert console == []
    seen = json.loads(re.search(r"<title>(.*?)</title>", printed)[1])  # type: ignore[index]
    assert (seen["canvas"], seen["still"], seen["unseen"]) == (False, True, 0)
    assert "This browser has no WebGL" in printed
