"""What a command asks of a run: finished stages that fit each other, or a word about which does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from utils.artifacts import write_json
from utils.commands import answer
from utils.errors import InputError
from utils.finished_run import has_result, require_finished, require_fitting, require_stages


def stamp(run: Path, name: str, inputs: dict[str, str] | None = None, skipped: str | None = None) -> None:
    write_json(run / name / "stamp.json", {"hash": f"{name}1", "inputs": inputs or {}, "skipped": skipped})


def test_a_finished_run_passes(tmp_path: Path) -> None:
    stamp(tmp_path, "scene")
    stamp(tmp_path, "nerf", {"scene": "scene1"})
    require_stages(tmp_path, "scene", "nerf")
    assert has_result(tmp_path, "nerf")
    assert not has_result(tmp_path, "render")


def test_each_lack_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is no run(.|\n)*no such folder"):
        require_stages(tmp_path / "nothing", "nerf")
    with pytest.raises(InputError, match=r"is no run(.|\n)*no finished stage"):
        require_stages(tmp_path, "nerf")
    (tmp_path / "scene.partial").mkdir()
    with pytest.raises(InputError, match=r"is not finished(.|\n)*scene\.partial"):
        require_stages(tmp_path, "nerf")
    stamp(tmp_path, "scene")
    with pytest.raises(InputError, match=r"`nerf` is needed(.|\n)*--from nerf"):
        require_stages(tmp_path, "scene", "nerf")
    stamp(tmp_path, "nerf", skipped="a single frame")
    with pytest.raises(InputError, match=r"skipped: a single frame"):
        require_stages(tmp_path, "scene", "nerf")
    assert not has_result(tmp_path, "nerf")
    stamp(tmp_path, "nerf", {"scene": "scene0"})
    with pytest.raises(InputError, match=r"older `scene`"):
        require_stages(tmp_path, "scene", "nerf")


def test_stages_that_measure_must_fit_each_other_as_far_as_they_are_finished(tmp_path: Path) -> None:
    stamp(tmp_path, "scene")
    stamp(tmp_path, "poses", {"scene": "scene1"}, skipped="one pair")
    stamp(tmp_path, "export", {"scene": "scene1", "render": "render0"})
    require_fitting(tmp_path, "export")
    stamp(tmp_path, "render", {"poses": "poses1"})
    require_fitting(tmp_path)
    with pytest.raises(InputError, match=r"`export` is needed(.|\n)*older `render`"):
        require_fitting(tmp_path, "export")
    stamp(tmp_path, "poses", {"scene": "scene0"}, skipped="one pair")
    with pytest.raises(InputError, match=r"`poses` is needed(.|\n)*older `scene`"):
        require_fitting(tmp_path)
    with pytest.raises(InputError, match=r"skipped: one pair|older `scene`"):
        require_stages(tmp_path, "poses")
    (tmp_path / "nerf.partial").mkdir()
    with pytest.raises(InputError, match=r"nerf\.partial, in the making"):
        require_finished(tmp_path, "nerf")


def test_a_command_answers_with_its_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse() -> str:
        require_stages(tmp_path / "nothing")
        return "never"

    def interrupt() -> str:
        raise KeyboardInterrupt

    def denied() -> str:
        raise PermissionError(13, "Permission denied", "a file")

    def broken() -> str:
        raise OSError(2, "another error")

    assert [answer(work) for work in (lambda: "done", refuse, interrupt, denied)] == [0, 2, 130, 2]
    said = capsys.readouterr()
    assert said.out == "done\n"
    assert "is no run" in said.err
    assert "a file cannot be read or written" in said.err
    with pytest.raises(OSError, match=r"another error"):
        answer(broken)
