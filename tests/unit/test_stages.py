"""The stage runner with toy stages: what is redone, what is kept, what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from tests.toys import NAMES, Toys, raising
from utils.errors import InputError, NotApplicable
from utils.stages import PENDING, STAMP, choose, peak_memory_mb, read_stamp, run_stages, skipped


@pytest.fixture
def toys(tmp_path: Path) -> Toys:
    (tmp_path / "logs").mkdir()
    return Toys(tmp_path / "logs")


def test_a_first_run_makes_every_folder_and_its_stamp(toys: Toys) -> None:
    assert toys.run() == list(NAMES)
    assert toys.folders() == set(NAMES)
    assert toys.value("report") == 2 * 3 + 3
    stamp = read_stamp(toys.root / "double")
    assert stamp["options"] == {"factor": 2}
    assert stamp["inputs"] == {"source": read_stamp(toys.root / "source")["hash"]}
    assert stamp["summary"] == "multiplied"
    assert stamp["seconds"] >= 0
    assert stamp["peak_memory_mb"] > 10
    assert not (toys.root / "double" / PENDING).exists()


def test_a_finished_folder_is_not_redone(toys: Toys) -> None:
    toys.run()
    before = {name: (toys.root / name / STAMP).stat().st_mtime_ns for name in NAMES}
    assert toys.run() == []
    assert {name: (toys.root / name / STAMP).stat().st_mtime_ns for name in NAMES} == before


@pytest.mark.parametrize(
    ("stage", "change", "redone"),
    [
        ("source", {"number": 5}, ["source", "double", "train", "report"]),
        ("double", {"factor": 3}, ["double", "report"]),
        ("train", {"steps": 5}, ["train", "report"]),
        ("report", {"title": "new"}, ["report"]),
        ("source", {"talk": True}, []),
        ("train", {"printing": 9}, []),
    ],
)
def test_a_changed_option_redoes_exactly_what_depends_on_it(
    toys: Toys, stage: str, change: dict[str, Any], redone: list[str]
) -> None:
    toys.run()
    toys.change(stage, **change)
    assert toys.run() == redone
    assert toys.run() == []


def test_the_new_value_arrives_at_the_end(toys: Toys) -> None:
    toys.run()
    toys.change("source", number=10)
    toys.run()
    assert toys.value("report") == 2 * 10 + 10
    assert toys.folders() == set(NAMES), "the old folders are gone"


def test_a_changed_version_redoes_the_stage_and_what_depends_on_it(toys: Toys) -> None:
    toys.run()
    toys.versions["double"] = 2
    assert toys.run() == ["double", "report"]


def test_a_changed_input_file_redoes(toys: Toys, tmp_path: Path) -> None:
    file = tmp_path / "input.txt"
    file.write_text("1")
    toys.change("source", file=str(file))
    toys.run()
    assert toys.value("double") == 2 * (3 + 1)
    file.touch()  # a new date alone is no change
    assert toys.run() == []
    file.write_text("7")
    assert toys.run() == list(NAMES)
    assert toys.value("double") == 2 * (3 + 7)


def test_an_option_set_back_is_redone_too(toys: Toys) -> None:
    toys.run()
    toys.change("double", factor=3)
    toys.run()
    toys.change("double", factor=2)
    assert toys.run() == ["double", "report"]
    assert toys.value("double") == 6


def test_a_stage_that_does_not_apply_is_stamped_and_the_rest_goes_on(toys: Toys) -> None:
    toys.during["double"] = raising(NotApplicable("nothing to multiply"))
    assert toys.run() == list(NAMES)
    assert skipped(toys.root / "double") == "nothing to multiply"
    assert skipped(toys.root / "source") is None
    assert toys.value("report") == 3
    assert toys.run() == [], "a skipped stage is finished too"


def test_checks_of_all_chosen_stages_come_before_any_work(toys: Toys) -> None:
    toys.change("source", number=-1)
    with pytest.raises(InputError, match="negative"):
        toys.run()
    assert toys.diary == []
    assert toys.folders() == set()


def test_a_late_stage_is_checked_before_the_first_one_runs(toys: Toys) -> None:
    def refuse(_: Any) -> None:
        raise InputError("bad title", found="x", expected="y", do="z")

    stages = toys.stages()
    stages[3] = dataclasses.replace(stages[3], check=refuse)
    with pytest.raises(InputError, match="bad title"):
        run_stages(stages, toys.options, toys.root, chosen=NAMES)
    assert toys.diary == []
    run_stages(stages, toys.options, toys.root, chosen=["source"])
    assert toys.diary == ["source"], "a stage that is not asked for is not checked"


def test_only_from_and_until_choose() -> None:
    assert choose(NAMES, "", "", "") == list(NAMES)
    assert choose(NAMES, "double", "", "") == ["double"]
    assert choose(NAMES, "train,source", "", "") == ["source", "train"]
    assert choose(NAMES, "", "double", "") == ["double", "train", "report"]
    assert choose(NAMES, "", "", "double") == ["source", "double"]
    assert choose(NAMES, "", "double", "train") == ["double", "train"]


@pytest.mark.parametrize(
    ("flags", "named"), [(("trian", "", ""), "--only"), (("", "x", ""), "--from"), (("", "", "y"), "--until")]
)
def test_a_stage_that_there_is_not_is_refused(flags: tuple[str, str, str], named: str) -> None:
    with pytest.raises(InputError) as caught:
        choose(NAMES, *flags)
    assert named in caught.value.what
    assert caught.value.expected == ", ".join(NAMES)


def test_until_leaves_later_folders_alone(toys: Toys) -> None:
    assert toys.run(until="double") == ["source", "double"]
    assert toys.run(start="train") == ["train", "report"]


def test_a_missing_stage_is_asked_for(toys: Toys) -> None:
    with pytest.raises(InputError) as caught:
        toys.run(only="double")
    assert "`source` is needed first" in caught.value.what
    assert caught.value.found == "no finished folder"
    assert "--from source" in caught.value.do


def test_a_stale_upstream_is_refused(toys: Toys) -> None:
    toys.run()
    toys.change("source", number=4)
    with pytest.raises(InputError) as caught:
        toys.run(only="double")
    assert "made from other options" in caught.value.found
    assert toys.diary == []
    assert toys.value("double") == 6
    assert toys.run(start="source") == list(NAMES)


def test_a_stale_stage_two_steps_up_is_refused_too(toys: Toys) -> None:
    toys.run()
    toys.change("source", number=4)
    toys.run(only="source")
    with pytest.raises(InputError) as caught:
        toys.run(only="report")
    assert "`double`" in caught.value.what


def test_memory_is_that_of_this_process() -> None:
    block = bytearray(64 * 2**20)
    block[:: 2**12] = b"x" * len(block[:: 2**12])
    assert peak_memory_mb() > 64
