"""What a sweep plans: combinations, names of folders, shared stages, places on the machine, order of the work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sweeps.cluster import _limits
from sweeps.launch import Outcome
from sweeps.local import slots
from sweeps.options import SweepOptions
from sweeps.plan import Run, Task, make_tasks, without_effect
from sweeps.schedule import Progress, work_off
from sweeps.settings import Axis, combinations, folder_name, read_axes
from tests.sweep_program import STAGES
from utils.errors import InputError

KNOWN, FIXED = ("factor", "shift", "seed", "stereo", "expname"), ("expname",)


def test_every_combination_is_there_once_and_the_last_flag_changes_fastest() -> None:
    axes = read_axes(["factor=0,0.5", "seed=1,2,3"], KNOWN, FIXED)
    made = combinations(axes)
    assert len(made) == len(set(made)) == 6
    assert made[:2] == [(("factor", "0"), ("seed", "1")), (("factor", "0"), ("seed", "2"))]


def test_values_that_hold_commas_are_separated_by_semicolons() -> None:
    assert read_axes(["stereo=sgbm;sgbm,pam"], KNOWN, FIXED) == [Axis("stereo", ("sgbm", "sgbm,pam"))]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("factor", "cannot be read"),
        ("factor=", "cannot be read"),
        ("factor=1,,2", "cannot be read"),
        ("factr=1,2", "`factor`, the nearest known name"),
        ("expname=a,b", "is not possible"),
        ("factor=1,1", "the value 1 stands there twice"),
    ],
)
def test_a_word_that_makes_no_sense_is_refused(word: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_axes([word], KNOWN, FIXED)


def test_a_flag_given_twice_and_too_many_runs_are_refused() -> None:
    with pytest.raises(InputError, match="twice the same flag"):
        read_axes(["factor=1", "factor=2"], KNOWN, FIXED)
    many = ",".join(str(number) for number in range(101))
    with pytest.raises(InputError, match="10201 combinations"):
        combinations(read_axes([f"factor={many}", f"seed={many}"], KNOWN, FIXED))


def test_folders_of_different_settings_never_share_a_name() -> None:
    settings = [(("stereo", "a/b"),), (("stereo", "a b"),), (("stereo", "a_b"),), (("stereo", "x" * 300),)]
    settings.append((("stereo", "x" * 301),))
    names = [folder_name(setting) for setting in settings]
    assert len(set(names)) == len(names)
    assert all("/" not in name and " " not in name and len(name) < 200 for name in names)
    assert folder_name((("factor", "0.4"), ("seed", "1"))) == "factor=0.4,seed=1"


def run_of(number: int, **hashes: str) -> Run:
    full = {stage.name: hashes.get(stage.name, f"{stage.name}{number}") for stage in STAGES}
    return Run("s", (("seed", str(number)),), Path(f"/r{number}"), (), full, tuple(full))


def test_what_runs_share_is_one_task_that_comes_first() -> None:
    runs = [run_of(number, scene="s", prior="p") for number in range(3)]
    tasks = make_tasks(STAGES, runs, [])
    assert [(task.run, task.stages, task.needs) for task in tasks] == [
        (runs[0], ("scene", "prior"), set()),
        (runs[0], ("train", "evaluation"), {0}),
        (runs[1], ("train", "evaluation"), {0}),
        (runs[2], ("train", "evaluation"), {0}),
    ]


def test_stages_shared_by_fewer_runs_are_tasks_of_their_own() -> None:
    runs = [run_of(0, scene="s", prior="p"), run_of(1, scene="s", prior="p"), run_of(2, scene="s")]
    tasks = make_tasks(STAGES, runs, [])
    assert [(task.run, task.stages, task.needs) for task in tasks] == [
        (runs[0], ("scene",), set()),
        (runs[0], ("prior",), {0}),
        (runs[0], ("train", "evaluation"), {1}),
        (runs[1], ("train", "evaluation"), {1}),
        (runs[2], ("prior", "train", "evaluation"), {0}),
    ]


def test_finished_stages_and_stages_that_are_not_asked_for_are_no_work() -> None:
    runs = [run_of(number, scene="s", prior="p") for number in range(2)]
    finished = [("scene", "s"), ("prior", "p"), ("train", "train1"), ("evaluation", "evaluation1")]
    assert [(task.run, task.stages, task.needs) for task in make_tasks(STAGES, runs, finished)] == [
        (runs[0], ("train", "evaluation"), set())
    ]
    short = [replace(run, chosen=("scene", "prior")) for run in runs]
    assert [task.stages for task in make_tasks(STAGES, short, [])] == [("scene", "prior")]


def test_a_flag_that_changes_nothing_is_said() -> None:
    same = {stage.name: "x" for stage in STAGES}
    lines = without_effect([run_of(0, **same), run_of(1, **same), run_of(2)])
    assert lines == ["s: seed=1 gives the same as seed=0: it is computed once"]


class Toys:
    """Workers that answer at once, with outcomes that a test chose; at most `room` at a time."""

    def __init__(self, outcomes: dict[int, list[Outcome]], room: int = 9) -> None:
        self.outcomes, self.room = outcomes, room
        self.running: list[Task] = []
        self.begun: list[int] = []

    def has_room(self) -> bool:
        return len(self.running) < self.room

    def submit(self, task: Task, words: list[str]) -> None:
        assert self.has_room()
        assert words == [str(task.number)]
        self.running.append(task)
        self.begun.append(task.number)

    def wait(self, _: float) -> Iterator[tuple[Task, Outcome]]:
        task = self.running.pop(0)
        left = self.outcomes.get(task.number, [])
        yield task, left.pop(0) if left else Outcome(0)


def work(workers: Toys, *needs: set[int], retries: int = 1, broken: str = "") -> Progress:
    tasks = [Task(number, run_of(number), ("scene",), set(need)) for number, need in enumerate(needs)]
    return work_off(
        tasks,
        workers,
        retries=retries,
        prepare=lambda task: [str(task.number)],
        finish=lambda _: broken,
        changed=lambda _: None,
    )


def test_tasks_wait_for_what_they_need() -> None:
    workers = Toys({}, room=1)
    progress = work(workers, {2}, set(), {1})
    assert workers.begun == [1, 2, 0]
    assert progress.done == {0, 1, 2}


def test_a_failure_is_tried_again_and_its_dependants_are_not_begun() -> None:
    workers = Toys({0: [Outcome(1, "a")] * 5})
    progress = work(workers, set(), {0}, {1}, set(), retries=2)
    assert workers.begun.count(0) == 3
    assert progress.failed == {0: "a", 1: "a", 2: "a"}
    assert progress.done == {3}
    again = Toys({0: [Outcome(1, "a")]})
    assert work(again, set(), {0}).done == {0, 1}


def test_wrong_input_is_not_tried_again_and_a_lost_machine_is_no_failure_of_the_run() -> None:
    workers = Toys({0: [Outcome(2, "no such folder")] * 5, 1: [Outcome(None, "lost")] * 2})
    progress = work(workers, set(), set(), retries=0)
    assert workers.begun.count(0) == 1
    assert workers.begun.count(1) == 3
    assert progress.done == {1}
    endless = Toys({0: [Outcome(None, "lost")] * 99})
    assert work(endless, set(), retries=0).failed == {0: "lost"}


def test_a_task_that_ends_well_without_its_result_has_failed() -> None:
    assert work(Toys({}), set(), broken="nothing there").failed == {0: "nothing there"}


def test_the_machine_is_divided_by_cores_or_by_shares_of_gpus() -> None:
    cores = list(range(8))
    plain = slots(SweepOptions(), cores, [])
    assert [(slot.cores, slot.gpus) for slot in plain] == [((0, 1, 2, 3), None), ((4, 5, 6, 7), None)]
    assert [slot.gpus for slot in slots(SweepOptions(), cores, ["GPU-7f", "3"])] == ["GPU-7f", "3"]
    assert len(slots(SweepOptions(), [0, 1], [])) == 1
    assert [slot.cores for slot in slots(SweepOptions(cpus_per_run=2), cores[:4], [])] == [(0, 1), (2, 3)]
    assert [slot.gpus for slot in slots(SweepOptions(), cores, ["0", "1"])] == ["0", "1"]
    assert [slot.gpus for slot in slots(SweepOptions(gpus_per_run=0.5), cores, ["0", "1"])] == ["0", "1", "0", "1"]
    assert [slot.gpus for slot in slots(SweepOptions(gpus_per_run=2), cores, ["0", "1", "2", "3"])] == [
        "0,1",
        "2,3",
    ]
    assert [slot.gpus for slot in slots(SweepOptions(gpus_per_run=0, sweep_jobs=3), cores, ["0", "1"])] == [
        "",
        "",
        "",
    ]


@pytest.mark.parametrize("options", [SweepOptions(gpus_per_run=1), SweepOptions(sweep_jobs=-1)])
def test_a_division_that_cannot_be_is_refused(options: SweepOptions) -> None:
    with pytest.raises(InputError, match="cannot be divided so"):
        slots(options, [0, 1], [])


def test_a_run_on_a_cluster_keeps_to_its_cores_and_sees_no_gpu_that_it_did_not_ask_for() -> None:
    cores = {"OMP_NUM_THREADS": "4", "NUMBA_NUM_THREADS": "4"}
    assert _limits({"num_cpus": 4.0, "num_gpus": 0.5}) == cores
    assert _limits({"num_cpus": 4.0, "num_gpus": 0.0}) == cores | {"CUDA_VISIBLE_DEVICES": ""}
