"""The stage runner when stages crash or are interrupted: nothing half-written counts, resumable work goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.toys import NAMES, Toys, interrupt_after, raising
from utils.artifacts import read_json
from utils.stages import PENDING, STAMP, read_stamp


@pytest.fixture
def toys(tmp_path: Path) -> Toys:
    (tmp_path / "logs").mkdir()
    return Toys(tmp_path / "logs")


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt(), SystemExit(3), OSError(28, "full")])
def test_a_crash_leaves_no_half_written_folder(toys: Toys, error: BaseException) -> None:
    toys.during["double"] = raising(error)
    with pytest.raises(type(error)):
        toys.run()
    assert toys.folders() == {"source"}
    toys.during.clear()
    assert toys.run() == ["double", "train", "report"]


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()])
def test_a_crash_keeps_the_old_finished_folder(toys: Toys, error: BaseException) -> None:
    toys.run()
    toys.change("double", factor=5)
    toys.during["double"] = raising(error)
    with pytest.raises(type(error)):
        toys.run()
    assert toys.folders() == set(NAMES)
    assert toys.value("double") == 6
    toys.change("double", factor=2)
    toys.during.clear()
    assert toys.run() == [], "with the old option the old folder still counts as finished"


def test_a_half_written_folder_of_a_killed_process_is_not_taken_for_finished(toys: Toys) -> None:
    (toys.root / "double.partial").mkdir()
    (toys.root / "double.partial" / "value.txt").write_text("999")
    (toys.root / "double.partial" / "rest.txt").write_text("from before")
    toys.run()
    assert toys.value("double") == 6
    assert not (toys.root / "double" / "rest.txt").exists()


def test_a_folder_without_a_stamp_is_redone(toys: Toys) -> None:
    toys.run()
    (toys.root / "double" / STAMP).unlink()
    assert toys.run() == ["double"]


def test_a_process_killed_while_replacing_leaves_something_to_go_on_from(toys: Toys) -> None:
    toys.run()
    (toys.root / "double").rename(toys.root / "double.old")  # killed between the two renames
    assert toys.run() == ["double"]
    toys.change("double", factor=4)
    (toys.root / "double.old").mkdir(exist_ok=True)
    (toys.root / "double.old" / "rest.txt").write_text("from before")
    assert toys.run() == ["double", "report"]
    assert toys.folders() == set(NAMES)
    assert toys.value("double") == 12


def test_a_resumable_stage_goes_on_from_its_partial_folder(toys: Toys) -> None:
    toys.during["step"] = interrupt_after(2)
    with pytest.raises(KeyboardInterrupt):
        toys.run()
    assert "train.partial" in toys.folders()
    assert "train" not in toys.folders()
    seconds = read_json(toys.root / "train.partial" / PENDING)["seconds"]
    toys.during.clear()
    assert toys.run() == ["train", "report"]
    assert (toys.root / "train" / "steps.txt").read_text().split() == ["0", "1", "2", "3"]
    assert read_stamp(toys.root / "train")["summary"] == "2 steps"
    assert read_stamp(toys.root / "train")["seconds"] >= round(seconds, 2)
    assert toys.folders() == set(NAMES)


def test_printing_options_do_not_stop_a_resumption(toys: Toys) -> None:
    toys.during["step"] = interrupt_after(3)
    with pytest.raises(KeyboardInterrupt):
        toys.run()
    toys.during.clear()
    toys.change("train", printing=100)
    toys.run()
    assert read_stamp(toys.root / "train")["summary"] == "1 steps"


@pytest.mark.parametrize("change", [{"steps": 6}, {}])
def test_changed_options_or_inputs_discard_a_partial_folder(toys: Toys, change: dict[str, int]) -> None:
    toys.during["step"] = interrupt_after(2)
    with pytest.raises(KeyboardInterrupt):
        toys.run()
    toys.during.clear()
    toys.change("train", **change)
    if not change:
        toys.change("source", number=8)
    toys.run()
    assert read_stamp(toys.root / "train")["summary"] == f"{change.get('steps', 4)} steps"


def test_fresh_discards_a_partial_folder(toys: Toys) -> None:
    toys.during["step"] = interrupt_after(2)
    with pytest.raises(KeyboardInterrupt):
        toys.run()
    toys.during.clear()
    toys.run(fresh=True)
    assert read_stamp(toys.root / "train")["summary"] == "4 steps"


def test_a_resumable_stage_keeps_its_old_folder_until_it_is_done(toys: Toys) -> None:
    toys.run()
    toys.change("train", steps=6)
    toys.during["step"] = interrupt_after(5)
    with pytest.raises(KeyboardInterrupt):
        toys.run()
    assert (toys.root / "train" / "steps.txt").read_text().split() == ["0", "1", "2", "3"]
    assert (toys.root / "train.partial" / "steps.txt").exists()
