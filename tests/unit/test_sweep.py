"""Whole sweeps of a small program: nothing is computed twice, failures are told, tables say what was reached."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests import sweep_program
from utils.images import read_rgb

PROGRAM = Path(sweep_program.__file__)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "number.txt").write_text("3")
    return folder


def words(data: Path, *more: str) -> list[str]:
    return [f"--basedir={data.parent / 'logs'}", "--expname=toy", f"--datadir={data}", *more]


def sweep(data: Path, *more: str) -> int:
    return sweep_program.main(words(data, *more))


def made(data: Path) -> Counter[str]:
    path = data / "made.txt"
    return Counter(path.read_text().splitlines()) if path.exists() else Counter()


def lines(data: Path) -> list[dict[str, str]]:
    with open(data.parent / "logs" / "toy_sweep" / "sweep.csv") as file:
        return list(csv.DictReader(file))


FOUR = ("--sweep", "factor=2,4", "seed=0,1")


def test_shared_stages_are_computed_once_and_the_table_has_mean_and_spread(data: Path) -> None:
    assert sweep(data, *FOUR, "--sweep_jobs=2") == 0
    counts = made(data)
    assert counts["scene"] == counts["prior 1"] == 1
    assert counts["evaluation"] == 4
    folder = data.parent / "logs" / "toy_sweep"
    # (3 + 1) x factor + seed / 1000; over seeds 0 and 1 the mean is + 0.0005, the deviation 0.00071
    assert [float(line["abs_rel"]) for line in lines(data)] == pytest.approx([8, 8.001, 16, 16.001])
    table = (folder / "sweep.md").read_text()
    assert "| 2 | 2 | 8.0005 ± 0.0007 | 38.00 ± 0.00 |" in table
    assert "16.0005 $\\pm$ 0.0007" in (folder / "sweep.tex").read_text()
    for run in (folder / "toy").iterdir():
        assert json.loads((run / "evaluation" / "metrics.json").read_text())["metric"] is True
        assert (run / "prior" / "stamp.json").exists()
    assert read_rgb(folder / "heatmap_toy.png").std() > 10


def test_the_same_command_does_nothing_and_a_new_value_only_itself(data: Path) -> None:
    sweep(data, *FOUR)
    before = made(data)
    assert sweep(data, *FOUR) == 0
    assert made(data) == before
    assert sweep(data, "--sweep", "factor=4,8", "seed=0,1") == 0
    (kept,) = (data.parent / "logs" / "toy_sweep" / "former").glob("*/sweep.md")
    assert "| 2 | 2 | 8.0005" in kept.read_text()
    new = made(data) - before
    assert new == {"train 8 0 first half": 1, "train 8 1 first half": 1, "evaluation": 2} | {
        f"train 8 {seed} second half": 1 for seed in (0, 1)
    }


def test_a_changed_flag_redoes_what_depends_on_it_and_changing_back_finds_nothing_wrong(data: Path) -> None:
    sweep(data, *FOUR)
    before = made(data)
    assert sweep(data, *FOUR, "--shift=2") == 0
    new = made(data) - before
    assert new["scene"] == 0
    assert new["prior 2"] == 1
    assert [float(line["abs_rel"]) for line in lines(data)] == pytest.approx([10, 10.001, 20, 20.001])
    assert sweep(data, *FOUR) == 0
    assert [float(line["abs_rel"]) for line in lines(data)] == pytest.approx([8, 8.001, 16, 16.001])


def test_results_move_with_the_value_that_needs_them(data: Path) -> None:
    sweep(data, "--sweep", "shift=1,2")
    before = made(data)
    # the base value and the order change: all of it is there already
    assert sweep(data, "--sweep", "shift=2,1", "seed=0") == 0
    assert set(made(data) - before) == set()


def test_a_plain_run_gives_its_stages_to_the_sweep(data: Path) -> None:
    assert sweep_program.main(words(data)) == 0
    before = made(data)
    assert sweep(data, *FOUR) == 0
    new = made(data) - before
    assert new["scene"] == new["prior 1"] == new["train 2 0 first half"] == 0
    assert new["evaluation"] == 3
    # what belongs to the sweep is its own: the plain run may change
    assert sweep_program.main(words(data, "--shift=5")) == 0
    before = made(data)
    assert sweep(data, *FOUR) == 0
    assert made(data) == before


def test_a_run_of_a_sweep_can_be_changed_by_hand_without_harm_to_the_others(data: Path) -> None:
    sweep(data, *FOUR)
    folder = data.parent / "logs" / "toy_sweep" / "toy"
    shared = (folder / "factor=2,seed=0" / "prior" / "value.json").read_text()
    by_hand = [
        f"--basedir={folder}",
        "--expname=factor=4,seed=1",
        f"--datadir={data}",
        "--shift=7",
        "--until=prior",
    ]
    assert sweep_program.main(by_hand) == 0
    assert (folder / "factor=2,seed=0" / "prior" / "value.json").read_text() == shared
    assert json.loads((folder / "factor=4,seed=1" / "prior" / "value.json").read_text()) == 10


def test_failed_runs_are_tried_again_and_named(data: Path) -> None:
    assert sweep(data, *FOUR, "--fail=1") == 0
    assert {line["state"] for line in lines(data)} == {"done"}


def test_stages_before_the_first_that_is_asked_for_are_taken_from_the_plain_run_or_missed_at_once(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    late = ("--sweep", "factor=2", "--from=train")
    assert sweep(data, *late) == 2
    assert "stage `prior` is needed first" in capsys.readouterr().err
    assert sweep_program.main(words(data, "--until=prior")) == 0
    assert sweep(data, *late) == 0
    assert float(lines(data)[0]["abs_rel"]) == 8


def test_what_fails_for_good_leaves_the_rest_alone(data: Path) -> None:
    (data / "failed_2_0").write_text("x")  # the one failure of this run is behind it
    assert sweep(data, "--sweep", "factor=2,8", "--fail=1", "--sweep_retries=0") == 1
    states = {line["factor"]: (line["state"], line["reason"]) for line in lines(data)}
    assert states == {"2": ("done", ""), "8": ("failed", "RuntimeError: the lamp went out")}
    before = made(data)
    assert sweep(data, "--sweep", "factor=2,8", "--fail=1", "--sweep_retries=0") == 0
    assert {line["state"] for line in lines(data)} == {"done"}
    assert made(data) - before == {"train 8 0 second half": 1, "evaluation": 1}


def test_many_scenes_are_runs_in_their_usual_folders(data: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "number.txt").write_text("5")
    for name, folder in (("a", data), ("b", other)):
        (tmp_path / f"{name}.txt").write_text(
            f"expname = {name}\nbasedir = {tmp_path / 'logs'}\ndatadir = {folder}\n"
        )
    configs = [str(tmp_path / "a.txt"), str(tmp_path / "b.txt")]
    assert sweep_program.main(["--configs", *configs, "--factor=1"]) == 0
    assert json.loads((tmp_path / "logs" / "b" / "train" / "value.json").read_text()) == 6
    table = (tmp_path / "logs" / "sweep" / "sweep.md").read_text()
    assert "| a | 1 | 4.0000 |" in table
    assert "| b | 1 | 6.0000 |" in table
    assert sweep_program.main(["--configs", *configs, "--sweep", "factor=1,3", "--sweep_name=both"]) == 0
    assert (tmp_path / "logs" / "both" / "b" / "factor=3" / "evaluation" / "metrics.json").exists()
    assert made(other)["scene"] == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--sweep", "factor=1,-1"], "factor=-1: --factor is negative"),
        (["--sweep", "factor=1,much"], "cannot be read"),
        (["--sweep", "datadir=a,b"], "is not possible"),
        (["--sweep", "factor=1,2", "--config=no.txt"], "--config cannot be read"),
        (["--configs", "no.txt"], "--config cannot be read"),
    ],
)
def test_a_mistake_is_found_before_any_run_begins(
    data: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(data, *more) == 2
    assert said in capsys.readouterr().err
    assert made(data) == Counter()


def test_a_sweep_in_a_configuration_and_scenes_of_one_name_are_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "a.txt"
    config.write_text(f"expname = a\ndatadir = {data}\nsweep = [factor=1]\nbasedir = {tmp_path / 'logs'}\n")
    assert sweep_program.main(["--configs", str(config)]) == 2
    assert "asks for a sweep" in capsys.readouterr().err
    config.write_text(f"expname = a\ndatadir = {data}\nbasedir = {tmp_path / 'logs'}\n")
    assert sweep_program.main(["--configs", str(config), str(config)]) == 2
    assert "need names that differ" in capsys.readouterr().err
    other = tmp_path / "b.txt"
    other.write_text(f"expname = a\ndatadir = {data}\nbasedir = {tmp_path / 'elsewhere'}\n")
    assert sweep_program.main(["--configs", str(config), str(other), "--sweep", "seed=0,1"]) == 2
    assert "need names that differ" in capsys.readouterr().err


def test_a_sweep_in_the_folder_of_one_of_its_runs_is_refused_instead_of_waiting_for_itself(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "a.txt"
    config.write_text(f"expname = a\ndatadir = {data}\nbasedir = {tmp_path / 'logs'}\n")
    assert sweep_program.main(["--configs", str(config), "--sweep_name=a"]) == 2
    assert "would be the sweep's folder and a run's" in capsys.readouterr().err
    assert made(data) == Counter()


def begin(data: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), *words(data, *more)],
        env=os.environ | {"PYTHONPATH": str(PROGRAM.parents[1])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )


def wait_for(data: Path, line: str) -> None:
    until = time.monotonic() + 240
    while not made(data)[line]:
        assert time.monotonic() < until, f"no `{line}` in {made(data)}"
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked at through /proc")
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_sweep_leaves_no_process_and_goes_on_in_the_middle(
    data: Path, sign: signal.Signals
) -> None:
    first = begin(data, *FOUR, "--hang", "--sweep_jobs=1")
    try:
        wait_for(data, "train 2 0 first half")
        working = children(first.pid)
        assert working
        first.send_signal(sign)
        first.communicate(timeout=60)
    finally:
        first.kill()
    until = time.monotonic() + 10
    while any(is_alive(pid) for pid in working):
        assert time.monotonic() < until, "a run outlived its sweep"
        time.sleep(0.05)
    assert made(data)["train 2 0 second half"] == 0
    (data / "go").write_text("")
    assert sweep(data, *FOUR, "--hang") == 0
    assert made(data) == {"scene": 1, "prior 1": 1, "evaluation": 4} | {
        f"train {factor} {seed} {half} half": 1
        for factor in (2, 4)
        for seed in (0, 1)
        for half in ("first", "second")
    }


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked at through /proc")
def test_two_sweeps_of_one_name_do_not_run_at_once(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = begin(data, *FOUR, "--hang")
    try:
        wait_for(data, "train 2 0 first half")
        assert sweep(data, *FOUR) == 2
        assert "is being worked on" in capsys.readouterr().err
    finally:
        (data / "go").write_text("")
        _, said = first.communicate(timeout=60)
    assert first.returncode == 0, said
