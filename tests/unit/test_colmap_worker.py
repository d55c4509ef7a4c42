"""COLMAP's own process: its death is readable, and OpenCV is loaded before pycolmap."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from monocular.colmap_sfm import run_worker
from utils.errors import InputError

ROOT = Path(__file__).resolve().parents[2]


def test_a_dead_worker_becomes_a_readable_error(tmp_path: Path) -> None:
    job = {"action": "read", "model": str(tmp_path / "none"), "names": ["1"], "out": str(tmp_path / "out")}
    with pytest.raises(InputError, match="COLMAP stopped") as caught:
        run_worker(job)
    assert "exit code" in caught.value.found or "signal" in caught.value.found


def test_only_the_worker_imports_pycolmap_and_opencv_comes_first() -> None:
    """In the other order `cv2.imwrite` aborts the process."""
    importers = []
    for file in sorted((ROOT / "monocular").glob("*.py")):
        imported = [
            alias.name
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.Import)
            for alias in node.names
        ]
        if "pycolmap" in imported:
            importers.append(file.name)
            assert imported.index("cv2") < imported.index("pycolmap")
    assert importers == ["colmap_worker.py"]


def test_opencv_still_writes_beside_pycolmap(tmp_path: Path) -> None:
    code = (
        f"import monocular.colmap_worker, cv2, numpy; cv2.imwrite({str(tmp_path / 'a.png')!r}, numpy.ones((4, 4)))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    assert (tmp_path / "a.png").exists()
