"""Compiled kernels are kept for one state of all that is compiled into them, and nothing of others is deleted."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nerf import warm_up
from nerf.options import NerfOptions
from utils.compiled import KEPT_DAYS, NAME, PACKAGES, ROOT, sources_hash

FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def asked(folder: Path, **environment: str) -> str:
    """Return the folder of kernels that a new process finds."""
    command = [sys.executable, "-c", "from utils.compiled import cache_folder; print(cache_folder())"]
    settings = {**os.environ, "NUMBA_CACHE_DIR": str(folder), **environment}
    return subprocess.run(
        command, cwd=ROOT, env=settings, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_a_change_of_any_constant_changes_the_hash(tmp_path: Path) -> None:
    for package in PACKAGES:
        (tmp_path / package).mkdir(parents=True)
    (tmp_path / "nerf" / "constants.py").write_text("LEAST = 1e-6")
    before = sources_hash(tmp_path)
    (tmp_path / "nerf" / "constants.py").write_text("LEAST = 1e-5")
    assert sources_hash(tmp_path) != before


def test_kernels_take_constants_from_hashed_files_alone() -> None:
    for path in FILES:
        text = path.read_text()
        if "numba.njit" not in text:
            continue
        assert path.parent in [ROOT / package for package in PACKAGES], f"{path.name} is not hashed"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and any(alias.name.isupper() for alias in node.names):
                source = ROOT.joinpath(*str(node.module).split(".")).parent
                assert source in [ROOT / package for package in PACKAGES], f"{path.name} imports {node.module}"


def test_folders_of_others_stay_and_old_ones_go(tmp_path: Path) -> None:
    for name in ("kernels_of_somebody", f"{NAME}recent", f"{NAME}old"):
        (tmp_path / name).mkdir()
    past = time.time() - (KEPT_DAYS + 1) * 86400
    os.utime(tmp_path / f"{NAME}old", (past, past))
    found = asked(tmp_path)
    assert found == str(tmp_path / f"{NAME}{sources_hash()}")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["kernels_of_somebody", f"{NAME}recent", Path(found).name]
    )


@pytest.mark.skipif(os.name != "posix", reason="the folder of Linux that nobody can write to")
def test_where_nothing_can_be_written_another_folder_is_found(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    assert asked(Path("/proc/nothing"), HOME=str(home)) == str(home / ".cache" / f"{NAME}{sources_hash()}")


def test_kernels_are_compiled_in_the_background_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(warm_up, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr("nerf.warm_up.subprocess.Popen", lambda command, **_: started.append(command))
    for field in ("planes", "planes", "hash", "mlp"):
        warm_up.start(NerfOptions(field=field, device="cpu"))
    assert [command[-1] for command in started] == ["planes", "hash"], "and nothing for a field of densities"


def test_a_process_that_cannot_be_started_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object, **__: object) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(warm_up, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr("nerf.warm_up.subprocess.Popen", none_left)
    assert warm_up.start(NerfOptions(device="cpu")) is None
