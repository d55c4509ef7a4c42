"""Sweeps on a Ray cluster of two workers on this machine: one that is killed loses nothing, repeats nothing."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_sweep import FOUR, begin, is_alive, lines, made, sweep, wait_for
from tests.unit.test_sweep import data as data

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -e .[cluster]")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="processes are looked at through /proc"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A head that computes nothing and two nodes of one core each; the address of the head."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        plain: dict[str, Any] = {"include_dashboard": False, "object_store_memory": 100 * 2**20}
        made_here = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **plain})
        for _ in range(2):
            made_here.add_node(num_cpus=1, object_store_memory=100 * 2**20)
        made_here.wait_for_nodes()
        yield str(made_here.address)
        made_here.shutdown()


def runs_of(data: Path) -> dict[int, int]:
    """Return process -> parent of the runs that work on a dataset now."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
            status = (folder / "status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if "sweeps.launch" in words and f"--datadir={data}" in words:
            parent = next(line for line in status.splitlines() if line.startswith("PPid:"))
            found[int(folder.name)] = int(parent.split()[1])
    return found


def test_a_killed_worker_loses_nothing_and_nothing_is_done_twice(cluster: str, data: Path) -> None:
    first = begin(data, *FOUR, "--hang", "--ray", cluster, "--cpus_per_run=1", "--sweep_retries=0")
    try:
        wait_for(data, "train 2 0 first half")
        wait_for(data, "train 2 1 first half")  # both workers are in the middle of a run
        working = runs_of(data)
        assert len(working) == 2
        victim, worker = next(iter(working.items()))
        os.kill(worker, signal.SIGKILL)
        until = time.monotonic() + 20
        while is_alive(victim):
            assert time.monotonic() < until, "the run outlived its worker"
            time.sleep(0.05)
    finally:
        (data / "go").write_text("")
        _, said = first.communicate(timeout=240)
    assert first.returncode == 0, said
    assert made(data) == {"scene": 1, "prior 1": 1, "evaluation": 4} | {
        f"train {factor} {seed} {half} half": 1
        for factor in (2, 4)
        for seed in (0, 1)
        for half in ("first", "second")
    }
    assert [float(line["abs_rel"]) for line in lines(data)] == pytest.approx([8, 8.001, 16, 16.001])


def test_failures_are_told_and_more_than_the_machines_have_is_refused(
    cluster: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--ray", cluster, "--sweep", "factor=2,4", "--fail=1", "--sweep_retries=0"]
    assert sweep(data, *asked, "--cpus_per_run=64") == 2
    assert "at most 1 cores and 0 GPUs on a machine" in capsys.readouterr().err
    assert sweep(data, *asked, "--gpus_per_run=1", "--cpus_per_run=1") == 2
    (data / "failed_4_0").write_text("x")
    assert sweep(data, *asked, "--cpus_per_run=1") == 1
    assert [(line["state"], line["reason"]) for line in lines(data)] == [
        ("failed", "RuntimeError: the lamp went out"),
        ("done", ""),
    ]


def test_a_cluster_that_is_not_there_is_said(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(data, *FOUR, "--ray", "127.0.0.1:1") == 2
    assert "no cluster answers" in capsys.readouterr().err
