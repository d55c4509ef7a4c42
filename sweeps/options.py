"""Options of a sweep: which flags take which values on which scenes, and where the runs are worked off."""

from __future__ import annotations

from dataclasses import dataclass

from utils.options import option


@dataclass(frozen=True)
class SweepOptions:
    """A sweep is asked for by `sweep` or `configs`; the others say how it is worked off."""

    sweep: tuple[str, ...] = option(
        (), "run all combinations of flag=value,value … (separated by ; where a value holds commas)"
    )
    configs: tuple[str, ...] = option((), "configurations of many scenes, in the place of --config")
    sweep_name: str = option(
        "", "folder of the sweep under basedir (default: <expname>_sweep, for several scenes sweep)"
    )
    sweep_jobs: int = option(
        0, "runs at a time on this machine (0: as many as GPUs have shares; without a GPU one for four cores)"
    )
    sweep_retries: int = option(1, "how often a run that failed is tried again")
    cpus_per_run: int = option(
        0, "cores of a run (0: this machine's cores shared among the runs at a time; 2 with --ray)"
    )
    gpus_per_run: float = option(
        -1.0, "GPUs of a run, 0.5 for two runs on one (-1: one where there is a GPU, none with --ray)"
    )
    ray: str = option(
        "", "spread the runs over a Ray cluster: auto, host:port, or local for one on this machine alone"
    )


def asked(options: SweepOptions) -> bool:
    """Whether the command line asks for a sweep."""
    return bool(options.sweep or options.configs)
