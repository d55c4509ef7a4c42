"""The house of the project: who may import whom, what a file says it is for, how long it may be."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "stereo_prior",
    "monocular",
    "nerf",
    "evaluation",
    "export",
    "sweeps",
    "localisation",
    "novel_view",
    "utils",
)
# What comes after a run looks at its field through these doors alone.
DOORS = {"localisation": {"nerf.finished_field"}, "novel_view": {"nerf.finished_field", "nerf.distillation"}}
OURS = {*PACKAGES, "run", "tests", "benchmarks", "docs"}
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
EVERYTHING = [
    ROOT / "run.py",
    *MODULES,
    *sorted((ROOT / "tests").rglob("*.py")),
    *sorted((ROOT / "benchmarks").rglob("*.py")),
]
DRAWERS = {"helpers", "helper", "misc", "common", "util", "tools", "stuff"}
LONGEST_FILE, LONGEST_RUN = 300, 80


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(path: Path) -> list[tuple[int, str]]:
    """Return (line, dotted name) of every import of a file, inside functions too, in the order of the lines."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = named(path).split("/")[0]
            found.append((node.lineno, f"{package}.{node.module}" if node.level else str(node.module)))
    return sorted(found)


def broken_imports(path: Path) -> list[str]:
    """Return the imports that the table of the house forbids to a file of one of the packages."""
    package = named(path).split("/")[0]
    forbidden = OURS - {"utils", package}
    return [
        f"{named(path)}:{line} {name}"
        for line, name in imported(path)
        if name.split(".")[0] in forbidden and name not in DOORS.get(package, ())
    ]


def test_there_is_something_to_look_at() -> None:
    assert len(MODULES) > 50
    assert {named(path).split("/")[0] for path in MODULES} == set(PACKAGES)


def test_packages_import_only_utils_and_themselves() -> None:
    assert [line for path in MODULES for line in broken_imports(path)] == []


def test_a_forbidden_import_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    path = tmp_path / "nerf" / "bad.py"
    path.parent.mkdir()
    path.write_text("from utils import types\nfrom nerf import x\n\ndef f():\n    import stereo_prior.prior\n")
    assert broken_imports(path) == ["nerf/bad.py:5 stereo_prior.prior"]
    path = tmp_path / "localisation" / "bad.py"
    path.parent.mkdir()
    path.write_text(
        "from nerf import trained\nfrom nerf.finished_field import FinishedField\nimport novel_view.x\n"
    )
    assert broken_imports(path) == ["localisation/bad.py:1 nerf", "localisation/bad.py:3 novel_view.x"]


@pytest.mark.parametrize("path", [path for path in EVERYTHING if path.read_text().strip()], ids=named)
def test_every_module_starts_with_a_line_that_says_its_job(path: Path) -> None:
    tree = ast.parse(path.read_text())
    docstring = ast.get_docstring(tree)
    assert docstring, f"{named(path)} has no docstring"
    assert isinstance(tree.body[0], ast.Expr)
    assert tree.body[0].lineno == 1, "the docstring is not the first line"
    first = docstring.splitlines()[0]
    assert len(first.split()) >= 3
    assert first.endswith((".", ":", "?")), f"not a sentence: {first}"


def test_two_files_never_say_the_same_job() -> None:
    jobs = [docstring for path in MODULES if (docstring := ast.get_docstring(ast.parse(path.read_text())))]
    assert len(jobs) == len(set(jobs))


def test_there_is_no_drawer() -> None:
    assert [named(path) for path in EVERYTHING if path.stem in DRAWERS] == []


def test_files_stay_short() -> None:
    long = {named(path): lines for path in MODULES if (lines := len(path.read_text().splitlines())) > LONGEST_FILE}
    assert long == {}


def test_run_reads_like_a_paragraph() -> None:
    lines = [line for line in (ROOT / "run.py").read_text().splitlines() if line.strip()]
    assert len([line for line in lines if not line.startswith(("import ", "from "))]) < LONGEST_RUN


def test_opencv_comes_before_pycolmap_in_every_file() -> None:
    files = [path for path in EVERYTHING if any(name.split(".")[0] == "pycolmap" for _, name in imported(path))]
    assert files, "nothing imports pycolmap any more: this test can go"
    for path in files:
        order = [name.split(".")[0] for _, name in imported(path)]
        assert "cv2" in order, f"{named(path)} imports pycolmap without OpenCV before it"
        assert order.index("cv2") < order.index("pycolmap"), named(path)


@pytest.mark.parametrize("module", ["run", "monocular.colmap_worker", "monocular.poses"])
def test_a_process_never_holds_pycolmap_before_opencv(module: str) -> None:
    code = f"import sys, {module}; print(*[n for n in sys.modules if n in ('cv2', 'pycolmap')])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    order = done.stdout.split()
    assert order[0] == "cv2"
    if module == "monocular.colmap_worker":
        assert order == ["cv2", "pycolmap"]


WATCH = """
import builtins, os, sys
plain = builtins.__import__
def watched(name, *rest, **more):
    if name.split(".")[0] == "torch" and "torch" not in sys.modules:
        assert os.environ.get("OMP_WAIT_POLICY") == "PASSIVE", "PyTorch came before utils"
        print("torch")
    return plain(name, *rest, **more)
builtins.__import__ = watched
"""


@pytest.mark.parametrize("first", ["run", *(package for package in PACKAGES if package != "utils")])
def test_openmp_is_told_how_to_wait_before_pytorch_is_loaded(first: str) -> None:
    """Threads that spin while they wait slow a loaded machine down by a factor of four to eight."""
    inner = {
        "stereo_prior": "stereo_prior.learned_matchers",
        "nerf": "nerf.training",
        "novel_view": "novel_view.view_prior",
    }.get(first, first)
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    command = [sys.executable, "-c", f"{WATCH}\nimport {inner}"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "torch" in done.stdout or first in ("monocular", "evaluation", "export", "sweeps", "localisation")
