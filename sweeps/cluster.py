"""Work off the tasks of a sweep on a Ray cluster whose machines share the disk."""

from __future__ import annotations

import os
import socket
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sweeps.launch import LOG, ROOT, Outcome, execute
from sweeps.options import SweepOptions
from sweeps.plan import Task
from utils.artifacts import file_hash, record_hash
from utils.errors import InputError

LOCAL = "local"
_CORES_A_RUN = 2.0
_PROBE_SECONDS = 60.0
_ANSWER_SECONDS = 10.0
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports its use to its makers unless told not to
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


class RayWorkers:
    """The machines of a Ray cluster. Its scheduler places the tasks; a task that loses its machine comes back."""

    def __init__(self, options: SweepOptions, folder: Path, program: Path) -> None:
        """Connect, and make sure that every machine sees the same code and the same folder.

        Raises:
            InputError: Ray is not installed or not there, a run asks for more than any machine has, or a machine
                does not share the disk.
        """
        self._ray = _import_ray()
        self._program = program
        _connect(self._ray, options.ray)
        try:
            self._resources = {
                "num_cpus": float(options.cpus_per_run or _CORES_A_RUN),
                "num_gpus": max(0.0, options.gpus_per_run),
            }
            self._nodes = [node for node in self._ray.nodes() if node["Alive"]]
            self.size = _places(self._nodes, self._resources)
            _require_shared_disk(self._ray, self._nodes, folder, program)
        except BaseException:
            self._ray.shutdown()
            raise
        # It comes back by our own count, which the table tells; Ray would do so in silence.
        self._worker = self._ray.remote(_work).options(
            **self._resources, max_retries=0, runtime_env=_environment()
        )
        self._tasks: dict[Any, Task] = {}

    def describe(self) -> str:
        """Return one line about what works."""
        cpus, gpus = self._resources["num_cpus"], self._resources["num_gpus"]
        return f"{self.size} at a time on {len(self._nodes)} machines of a Ray cluster, {cpus:g} cores each" + (
            f", {gpus:g} GPU" if gpus else ""
        )

    def has_room(self) -> bool:
        """Whether another task can be handed in: always, Ray keeps the queue."""
        return True

    def submit(self, task: Task, words: list[str]) -> None:
        """Hand a task in."""
        log = (task.run.folder / LOG).resolve()
        limits = _limits(self._resources)
        self._tasks[self._worker.remote(words, str(log), os.getcwd(), str(self._program), limits)] = task

    def wait(self, seconds: float) -> Iterator[tuple[Task, Outcome]]:
        """Yield the tasks that ended, waiting for the first of them at most so long."""
        if not self._tasks:
            return
        waiting = list(self._tasks)
        ended, _ = self._ray.wait(waiting, num_returns=1, timeout=seconds)
        if ended:
            ended, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)
        for reference in ended:
            task = self._tasks.pop(reference)
            try:
                yield task, self._ray.get(reference)
            except self._ray.exceptions.RayTaskError as error:
                yield task, Outcome(1, f"the worker failed: {_last_line(error)}")
            except self._ray.exceptions.RayError as error:
                yield task, Outcome(None, f"its worker was lost: {type(error).__name__}")

    def close(self) -> None:
        """Stop what still runs, and leave the cluster as it was."""
        for reference in self._tasks:
            self._ray.cancel(reference, force=True)
        self._tasks.clear()
        self._ray.shutdown()


def _work(words: list[str], log: str, folder: str, program: str, extra: dict[str, str]) -> Outcome:
    """Run one task; called on a machine of the cluster."""
    os.chdir(folder)
    return execute(words, Path(log), Path(program), extra)


def _limits(resources: dict[str, float]) -> dict[str, str]:
    """Return the environment that keeps a run to its share; Ray hides no GPU from a task that asks for none."""
    cores = str(max(1, int(resources["num_cpus"])))
    threads = {"OMP_NUM_THREADS": cores, "NUMBA_NUM_THREADS": cores}
    return threads if resources["num_gpus"] else threads | {"CUDA_VISIBLE_DEVICES": ""}


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise InputError(
            "--ray needs Ray",
            found="no package `ray`",
            expected="Ray 2.40 or later, the same version on all machines",
            do="pip install -e .[cluster]",
        ) from error
    return ray


def _environment() -> dict[str, Any]:
    return {"env_vars": {"PYTHONPATH": str(ROOT)}}


def _connect(ray: Any, address: str) -> None:
    quiet = {"log_to_driver": False, "configure_logging": False}
    try:
        host, _, port = address.removeprefix("ray://").rpartition(":")
        if port.isdecimal():  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS).close()
        if address == LOCAL:
            ray.init(address=LOCAL, include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise InputError(
            f"--ray {address}: no cluster answers",
            found=_last_line(error),
            expected="a running Ray cluster of this Ray and Python version",
            do="start one (`ray start --head`, then `ray start --address HOST:6379` on the other machines), "
            "give its address, or say --ray local",
        ) from error


def _places(nodes: list[dict[str, Any]], wanted: dict[str, float]) -> int:
    """Return how many runs at a time fit onto the machines. Raises InputError where none does."""
    names = {"num_cpus": "CPU", "num_gpus": "GPU"}
    fitting = 0
    for node in nodes:
        shares = [node["Resources"].get(names[key], 0.0) / number for key, number in wanted.items() if number > 0]
        fitting += int(min(shares) + 1e-9) if shares else 1
    if not fitting:
        best = {
            name: max((node["Resources"].get(name, 0.0) for node in nodes), default=0.0) for name in ("CPU", "GPU")
        }
        raise InputError(
            "no machine of the cluster is large enough for a run",
            found=f"at most {best['CPU']:g} cores and {best['GPU']:g} GPUs on a machine",
            expected=f"{wanted['num_cpus']:g} cores and {wanted['num_gpus']:g} GPUs",
            do="give smaller --cpus_per_run and --gpus_per_run",
        )
    return fitting


def _require_shared_disk(ray: Any, nodes: list[dict[str, Any]], folder: Path, program: Path) -> None:
    """Raise InputError where a machine does not see the sweep's folder, or has other code at the same place."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    token = folder.resolve() / f".probe_{uuid.uuid4().hex}"
    token.write_text(socket.gethostname())
    mine = _code(program), sys.version_info[:2]
    try:
        probe, asked = ray.remote(_probe), []
        for node in nodes:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            placed = probe.options(
                num_cpus=0, max_retries=0, runtime_env=_environment(), scheduling_strategy=there
            )
            asked.append((node["NodeManagerHostname"], placed.remote(str(token), os.getcwd(), str(program))))
        for name, reference in asked:
            try:
                found = ray.get(reference, timeout=_PROBE_SECONDS)
            except ray.exceptions.RayError as error:
                found = _last_line(error)
            if found != mine:
                raise InputError(
                    f"the machine {name} of the cluster cannot take part",
                    found=found if isinstance(found, str) else "other code or another Python",
                    expected=f"{ROOT}, its environment and {folder} on a disk that all machines share",
                    do="mount them there under the same path, or take the machine out of the cluster",
                )
    finally:
        token.unlink(missing_ok=True)


def _code(program: Path) -> str:
    """Return a hash of the program and of the packages beside it."""
    patterns = ("*.py", "[a-z]*/*.py", "[a-z]*/*/*.py")
    files = sorted(path for pattern in patterns for path in program.parent.glob(pattern))
    return record_hash({str(path.relative_to(program.parent)): file_hash(path) for path in files})


def _probe(token: str, folder: str, program: str) -> tuple[str, tuple[int, ...]] | str:
    """Return what a machine has of the code; or, in words, what it does not see."""
    for path in (token, folder, program):
        if not Path(path).exists():
            return f"{socket.gethostname()} does not see {path}"
    return _code(Path(program)), sys.version_info[:2]
