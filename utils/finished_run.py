"""What a command may ask of a run that the pipeline left behind: that stages are finished, and fit each other."""

from __future__ import annotations

from pathlib import Path

from utils.errors import InputError
from utils.stages import STAMP, read_stamp, skipped

MEASURING = ("scene", "poses", "prior", "nerf", "render", "filter")


def require_stages(run: Path, *names: str) -> None:
    """Raise InputError where a stage is missing, did nothing in this scene, or was made from older inputs.

    Args:
        run: `logs/<expname>`.
        names: the stages whose folders will be read.
    """
    require_finished(run, *names)
    for name in names:
        reason = skipped(run / name)
        if reason:
            raise InputError(
                f"the run {run} has nothing from the stage `{name}`",
                found=f"it was skipped: {reason}",
                expected=f"a run whose stage `{name}` did its work",
                do="use a run of a sequence with poses and depth",
            )


def require_finished(run: Path, *names: str) -> None:
    """Raise InputError where a stage is missing or was made from an older one of `names`; it may be skipped."""
    if not any((run / scene).exists() for scene in (f"scene/{STAMP}", "scene.partial")):
        raise InputError(
            f"{run} is no run",
            found="no finished stage `scene` in it" if run.is_dir() else "no such folder",
            expected="the folder of an experiment, logs/<expname>",
            do="correct the path, or make the run first: python run.py --config <file>",
        )
    for name in ("scene", *names):
        if not (run / name / STAMP).exists():
            half = (run / f"{name}.partial").exists()
            raise _unfinished(
                run, name, f"{name}.partial, in the making or interrupted" if half else "no finished folder"
            )
    for name in names:
        for source in read_stamp(run / name)["inputs"]:
            if source in names and not made_from(run, name, source):
                raise _unfinished(run, name, f"a folder made from an older `{source}`")


def require_fitting(run: Path, *names: str) -> None:
    """Raise InputError where a stage that measures, or one of `names`, was made from older inputs.

    Of the stages that measure, those that are not finished are left out.
    """
    measuring = [name for name in MEASURING if (run / name / STAMP).exists()]
    require_finished(run, *dict.fromkeys((*measuring, *names)))


def made_from(run: Path, name: str, source: str) -> bool:
    """Whether a finished stage was made from the finished stage `source` that lies beside it now."""
    return bool(read_stamp(run / name)["inputs"].get(source) == read_stamp(run / source)["hash"])


def _unfinished(run: Path, name: str, found: str) -> InputError:
    return InputError(
        f"the run {run} is not finished: stage `{name}` is needed",
        found=found,
        expected="a finished folder",
        do=f"finish the run: python run.py with its configuration (or with --from {name})",
    )


def has_result(run: Path, name: str) -> bool:
    """Whether a stage is finished and was not skipped."""
    return (run / name / STAMP).exists() and not skipped(run / name)
