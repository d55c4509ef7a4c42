"""Results of a sweep on the disk: they change places without loss, and half a copy is never taken for one."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from sweeps.plan import Run
from sweeps.results import read_result
from sweeps.shelf import Shelf
from utils.artifacts import STAMP, read_json, replace_folder, write_json


def put(folder: Path, hash_: str) -> None:
    write_json(folder / STAMP, {"hash": hash_})
    write_json(folder / "value.json", hash_)


def run_of(folder: Path, hash_: str) -> Run:
    return Run("s", (("seed", folder.name),), folder, (), {"prior": hash_}, ("prior",))


def test_runs_that_want_what_the_other_has_swap_it(tmp_path: Path) -> None:
    one, two = tmp_path / "1", tmp_path / "2"
    put(one / "prior", "x")
    put(two / "prior", "y")
    runs = [run_of(one, "y"), run_of(two, "x")]
    shelf = Shelf(runs, [])
    shelf.gather()
    assert all(shelf.complete(run) for run in runs)
    assert read_json(one / "prior" / "value.json") == "y"
    assert read_json(two / "prior" / "value.json") == "x"
    assert sorted(path.name for path in tmp_path.glob("*/*")) == ["prior", "prior"]


def test_a_folder_that_is_replaced_while_it_is_copied_is_not_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, run = tmp_path / "home", run_of(tmp_path / "run", "x")
    put(home / "prior", "x")
    shelf, copy = Shelf([run], [home]), shutil.copytree

    def copy_beside_another(place: Path, partial: Path, **_: object) -> None:
        copy(place, partial)
        put(home / "new", "z")
        replace_folder(home / "new", home / "prior")

    monkeypatch.setattr(shutil, "copytree", copy_beside_another)
    shelf.gather()
    assert not shelf.complete(run)
    assert list(run.folder.iterdir()) == []
    monkeypatch.undo()
    put(home / "prior", "x")
    shelf = Shelf([run], [home])
    shelf.gather()
    assert shelf.complete(run)
    assert read_json(run.folder / "prior" / "value.json") == "x"


def test_a_run_whose_scores_are_gone_says_so_and_stops_no_sweep(tmp_path: Path) -> None:
    put(tmp_path / "evaluation", "x")
    run = replace(run_of(tmp_path, ""), hashes={"evaluation": "x"}, chosen=("evaluation",))
    assert "metrics.json" in read_result(run, "done", "").reason
    (tmp_path / "evaluation" / "metrics.json").write_text("{")
    found = read_result(run, "done", "")
    assert "cannot be read" in found.reason
    assert not found.figures
