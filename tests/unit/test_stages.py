"""The stage runner with toy stages: what is redone, what is kept, what a crash leaves, what is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from utils.artifacts import read_json
from utils.errors import InputError, NotApplicable
from utils.options import option
from utils.stages import PENDING, STAMP, Stage, choose, peak_memory_mb, read_stamp, run_stages, skipped

NAMES = ("source", "double", "train", "report")


@dataclasses.dataclass(frozen=True)
class SourceOptions:
    """Of the stage `source`."""

    number: int = option(3, "what it writes")
    file: str = option("", "a file that it reads")
    talk: bool = option(False, "printing only", affects_result=False)


@dataclasses.dataclass(frozen=True)
class DoubleOptions:
    """Of the stage `double`."""

    factor: int = option(2, "what it multiplies by")


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Of the resumable stage `train`."""

    steps: int = option(4, "how many there are")
    printing: int = option(1, "speed only", affects_result=False)


@dataclasses.dataclass(frozen=True)
class ReportOptions:
    """Of the stage `report`."""

    title: str = option("", "its title")


class Toys:
    """Four stages (source -> double -> report, source -> train -> report), and a diary of what ran."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.diary: list[str] = []
        self.during: dict[str, Callable[[Path], None]] = {}
        self.versions = dict.fromkeys(NAMES, 1)
        self.options: dict[str, Any] = {
            "source": SourceOptions(),
            "double": DoubleOptions(),
            "train": TrainOptions(),
            "report": ReportOptions(),
        }

    def stages(self) -> list[Stage]:
        kinds = {name: type(section) for name, section in self.options.items()}
        version = self.versions
        return [
            Stage("source", self._source, kinds["source"], (), version["source"], self._files, self._check),
            Stage("double", self._double, kinds["double"], ("source",), version["double"]),
            Stage("train", self._train, kinds["train"], ("source",), version["train"], resumable=True),
            Stage("report", self._report, kinds["report"], ("double", "train"), version["report"]),
        ]

    def set(self, stage: str, **changes: Any) -> None:
        self.options[stage] = dataclasses.replace(self.options[stage], **changes)

    def run(self, only: str = "", start: str = "", until: str = "", *, fresh: bool = False) -> list[str]:
        """Run and return which stages did anything."""
        self.diary.clear()
        chosen = choose(NAMES, only, start, until)
        run_stages(self.stages(), self.options, self.root, chosen=chosen, fresh=fresh)
        return list(self.diary)

    def value(self, stage: str) -> int:
        return int((self.root / stage / "value.txt").read_text())

    def folders(self) -> set[str]:
        return {path.name for path in self.root.iterdir()}

    def _enter(self, name: str, out: Path) -> None:
        self.diary.append(name)
        assert out.is_dir()
        assert out.name == f"{name}.partial"
        (out / "half.txt").write_text("in the making")
        if name in self.during:
            self.during[name](out)

    def _files(self, options: SourceOptions) -> list[Path]:
        return [Path(options.file)] if options.file else []

    def _check(self, options: SourceOptions) -> None:
        if options.number < 0:
            raise InputError("negative", found=str(options.number), expected="0 or more", do="raise it")

    def _source(self, options: SourceOptions, *, out: Path) -> str:
        self._enter("source", out)
        text = Path(options.file).read_text() if options.file else "0"
        (out / "value.txt").write_text(str(options.number + int(text)))
        return f"{options.number} written"

    def _double(self, options: DoubleOptions, *, out: Path, source: Path) -> str:
        self._enter("double", out)
        (out / "value.txt").write_text(str(options.factor * int((source / "value.txt").read_text())))
        return "multiplied"

    def _train(self, options: TrainOptions, *, out: Path, source: Path) -> str:
        log = out / "steps.txt"
        done = len(log.read_text().split()) if log.exists() else 0
        self._enter("train", out)
        for step in range(done, options.steps):
            with log.open("a") as file:
                file.write(f"{step} ")
            if "step" in self.during:
                self.during["step"](out)
        (out / "value.txt").write_text((source / "value.txt").read_text())
        return f"{options.steps - done} steps"

    def _report(self, options: ReportOptions, *, out: Path, double: Path, train: Path) -> str:
        self._enter("report", out)
        reason = skipped(double)
        parts = [train] if reason else [double, train]
        (out / "value.txt").write_text(str(sum(int((part / "value.txt").read_text()) for part in parts)))
        return options.title


@pytest.fixture
def toys(tmp_path: Path) -> Toys:
    (tmp_path / "logs").mkdir()
    return Toys(tmp_path / "logs")


def raising(error: BaseException) -> Callable[[Path], None]:
    def crash(out: Path) -> None:
        del out
        raise error

    return crash


def interrupt_after(steps: int) -> Callable[[Path], None]:
    def crash(out: Path) -> None:
        if len((out / "steps.txt").read_text().split()) == steps:
            raise KeyboardInterrupt

    return crash


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
    toys.set(stage, **change)
    assert toys.run() == redone
    assert toys.run() == []


def test_the_new_value_arrives_at_the_end(toys: Toys) -> None:
    toys.run()
    toys.set("source", number=10)
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
    toys.set("source", file=str(file))
    toys.run()
    assert toys.value("double") == 2 * (3 + 1)
    file.touch()  # a new date alone is no change
    assert toys.run() == []
    file.write_text("7")
    assert toys.run() == list(NAMES)
    assert toys.value("double") == 2 * (3 + 7)


def test_an_option_set_back_is_redone_too(toys: Toys) -> None:
    toys.run()
    toys.set("double", factor=3)
    toys.run()
    toys.set("double", factor=2)
    assert toys.run() == ["double", "report"]
    assert toys.value("double") == 6


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
    toys.set("double", factor=5)
    toys.during["double"] = raising(error)
    with pytest.raises(type(error)):
        toys.run()
    assert toys.folders() == set(NAMES)
    assert toys.value("double") == 6
    toys.set("double", factor=2)
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
    toys.set("double", factor=4)
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
    toys.set("train", printing=100)
    toys.run()
    assert read_stamp(toys.root / "train")["summary"] == "1 steps"


@pytest.mark.parametrize("change", [{"steps": 6}, {}])
def test_changed_options_or_inputs_discard_a_partial_folder(toys: Toys, change: dict[str, int]) -> None:
    toys.during["step"] = interrupt_after(2)
    with pytest.raises(KeyboardInterrupt):
        toys.run()
    toys.during.clear()
    toys.set("train", **change)
    if not change:
        toys.set("source", number=8)
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
    toys.set("train", steps=6)
    toys.during["step"] = interrupt_after(5)
    with pytest.raises(KeyboardInterrupt):
        toys.run()
    assert (toys.root / "train" / "steps.txt").read_text().split() == ["0", "1", "2", "3"]
    assert (toys.root / "train.partial" / "steps.txt").exists()


def test_a_stage_that_does_not_apply_is_stamped_and_the_rest_goes_on(toys: Toys) -> None:
    toys.during["double"] = raising(NotApplicable("nothing to multiply"))
    assert toys.run() == list(NAMES)
    assert skipped(toys.root / "double") == "nothing to multiply"
    assert skipped(toys.root / "source") is None
    assert toys.value("report") == 3
    assert toys.run() == [], "a skipped stage is finished too"


def test_checks_of_all_chosen_stages_come_before_any_work(toys: Toys) -> None:
    toys.set("source", number=-1)
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
    toys.set("source", number=4)
    with pytest.raises(InputError) as caught:
        toys.run(only="double")
    assert "made from other options" in caught.value.found
    assert toys.diary == []
    assert toys.value("double") == 6
    assert toys.run(start="source") == list(NAMES)


def test_a_stale_stage_two_steps_up_is_refused_too(toys: Toys) -> None:
    toys.run()
    toys.set("source", number=4)
    toys.run(only="source")
    with pytest.raises(InputError) as caught:
        toys.run(only="report")
    assert "`double`" in caught.value.what


def test_memory_is_that_of_this_process() -> None:
    block = bytearray(64 * 2**20)
    block[:: 2**12] = b"x" * len(block[:: 2**12])
    assert peak_memory_mb() > 64
