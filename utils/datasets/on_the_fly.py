"""Use a public dataset in a run: `run.py --dataset KIND --datadir SRC` converts it into the run's folder first."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from utils.datasets.conversion import Order, convert
from utils.datasets.doctor import line
from utils.datasets.options import PARTS, ReaderOptions
from utils.datasets.registry import AUTO, KINDS
from utils.errors import InputError
from utils.folder_lock import only_one
from utils.options import option
from utils.scene import POSES

log = logging.getLogger("specula")

NONE = "none"
FOLDER = "dataset"


@dataclass(frozen=True)
class DatasetOptions:
    """A public dataset as input; the converted folder is kept, and made again where the dataset changed."""

    dataset: str = option(
        NONE,
        "layout of --datadir: none (this program's own), auto (told by its files), or a kind; it is converted "
        "into <basedir>/<expname>/dataset first",
        choices=(NONE, AUTO, *KINDS),
    )
    dataset_every: int = option(1, "take every n-th frame of the dataset")
    dataset_start: int = option(0, "first frame of the dataset, from 0")
    dataset_stop: int | None = option(None, "the frame of the dataset after the last one")
    dataset_poses: bool = option(
        True, "use the poses that the dataset has, as --poses file does; False: leave them out and estimate them"
    )
    mask_polarity: str = option(
        "auto", "what nonzero means in the dataset's masks", choices=("auto", "tissue", "tool")
    )
    depth_scale: float | None = option(None, "mm a unit of the dataset's depth; default: what its layout says")
    baseline_mm: float | None = option(None, "distance of the eyes where the dataset does not say it")
    dataset_part: str = option("auto", "of a dataset's folder with a measured pair and a video", choices=PARTS)


def use_dataset(sections: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """Return the options with the converted dataset in place of the public one; as they are without `--dataset`.

    Args:
        sections: name -> options, `dataset` among them.
        root: the run's folder.

    Raises:
        InputError: a dataset that cannot be read, or that the doctor refuses.
    """
    chosen: DatasetOptions = sections["dataset"]
    if chosen.dataset == NONE:
        return dict(sections)
    source, target = Path(sections["scene"].datadir), root / FOLDER
    if not sections["scene"].datadir:
        raise InputError(
            f"--dataset {chosen.dataset} without --datadir",
            found="no folder",
            expected="the dataset's folder",
            do="give it with --datadir",
        )
    done = convert(Order(source, target, chosen.dataset, _reader_options(chosen)))
    _say(done.record, done.findings, fresh=done.fresh)
    changed = {name: _moved(section, target) for name, section in sections.items()}
    poses = changed["poses"]
    if done.record["poses"] and poses.poses in ("colmap", "file") and not poses.poses_path:
        log.info("dataset: its own poses are used (--dataset_poses False estimates them)")
        changed["poses"] = replace(poses, poses="file", poses_path=str(target / POSES))
    return changed


def dataset_flags(sections: Mapping[str, Any]) -> list[str]:
    """Convert as `use_dataset` does, into the experiment's own folder; return the flags that name the result.

    Behind the flags that asked for the dataset they make other runs use the same folder.
    """
    if sections["dataset"].dataset == NONE:
        return []
    experiment = sections["experiment"]
    root = Path(experiment.basedir) / experiment.expname
    root.mkdir(parents=True, exist_ok=True)
    with only_one(root, wait=experiment.wait):
        changed = use_dataset(sections, root)
    poses = changed["poses"]
    flags = ["--dataset=none", f"--datadir={changed['scene'].datadir}", f"--poses={poses.poses}"]
    return [*flags, f"--poses_path={poses.poses_path}"] if poses.poses_path else flags


def _reader_options(chosen: DatasetOptions) -> ReaderOptions:
    return ReaderOptions(
        every=chosen.dataset_every,
        start=chosen.dataset_start,
        stop=chosen.dataset_stop,
        poses=chosen.dataset_poses,
        mask_polarity=chosen.mask_polarity,
        depth_scale=chosen.depth_scale,
        baseline_mm=chosen.baseline_mm,
        part=chosen.dataset_part,
    )


def _moved(section: Any, target: Path) -> Any:
    """Return a section that reads the converted folder, where it reads a dataset at all."""
    if "datadir" not in {field.name for field in fields(section)}:
        return section
    return replace(section, datadir=str(target))


def _say(record: Mapping[str, Any], findings: list[Any], *, fresh: bool) -> None:
    what = "converted" if fresh else "converted before, nothing to do"
    log.info("dataset: %d frames of %s (%s), %s", record["frames"], record["source"], record["kind"], what)
    for finding in findings:
        level = logging.WARNING if finding.verdict == "warn" else logging.DEBUG
        log.log(level, "dataset: %s", line(finding).partition("] ")[2])
