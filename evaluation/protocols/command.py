"""The command of the protocols: score a finished run without touching it, or write the lists of a split."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from evaluation.protocols import splits
from evaluation.protocols.frame_list import chosen_frames
from evaluation.protocols.named import PROTOCOLS, SPLITS
from evaluation.protocols.page import console
from evaluation.protocols.scored_run import ScoredRun
from evaluation.protocols.scoring import check, named, score_protocols
from evaluation.report.run import find_data, made_again, stamped_options
from evaluation.truth import truth_reader
from utils.artifacts import read_json
from utils.commands import answer
from utils.errors import InputError
from utils.scene import Scene
from utils.stages import STAMP, read_stamp, skipped


def main(arguments: Sequence[str]) -> int:
    """Print the table of a run, or write a split; return the exit status (see `utils.commands`)."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.protocols",
        description="Score a finished run under the protocols of the field, or prepare a dataset for one of them.",
    )
    parser.add_argument("run", type=Path, nargs="?", help="folder of a finished run: logs/<expname>")
    parser.add_argument("--protocol", nargs="+", default=list(PROTOCOLS), metavar="NAME", help="default: all")
    parser.add_argument("--frames", type=Path, metavar="FILE", help="the frames that afsfm scores")
    parser.add_argument(
        "--write_split",
        nargs=2,
        metavar=("NAME", "DATADIR"),
        help="write train.txt and test.txt of a protocol into a dataset folder",
    )
    parser.add_argument("--image_dir", default="images", choices=("images", "rectify"), help="default: images")
    parser.add_argument("--overwrite", action="store_true", help="with --write_split: replace lists")
    words = parser.parse_args(arguments)
    if (words.run is None) == (words.write_split is None):
        parser.error("name a run, or --write_split NAME DATADIR")

    def work() -> str:
        if words.run is not None:
            return score_run(words.run, words.protocol, words.frames)
        name, datadir = words.write_split
        return write_split(name, Path(datadir), words.frames, words.image_dir, overwrite=words.overwrite)

    return answer(work)


def score_run(root: Path, names: Sequence[str], frames: Path | None = None) -> str:
    """Return the protocols' table of a finished run; nothing is written.

    Args:
        root: `logs/<expname>`, evaluated.
        names: protocols.
        frames: the list of `afsfm`.

    Raises:
        InputError: no finished evaluation, or one of other stages; an unknown protocol; a list that does not fit.
    """
    chosen = named(names)
    evaluation = root / "evaluation"
    options = find_data(stamped_options(evaluation), root / "scene")
    if frames is not None:
        options = replace(options, afsfm_frames=str(frames))
    check(options)
    present = [name for name in read_stamp(evaluation)["inputs"] if (root / name / STAMP).exists()]
    changed = made_again(evaluation, {name: read_stamp(root / name) for name in present})
    if changed:
        raise InputError(
            f"{root} is not the run that was evaluated",
            found=f"stages that have changed since: {', '.join(changed)}",
            expected="an evaluation of the stages that are there",
            do="run the stage `evaluation` again",
        )
    scene = Scene.load(root / "scene")
    folders = {name: root / name for name in present if name != "scene" and not skipped(root / name)}
    run = ScoredRun(options, scene, folders, truth_reader(options, scene), read_json(evaluation / "metrics.json"))
    return console(score_protocols(run, chosen))


def write_split(name: str, datadir: Path, frames: Path | None, image_dir: str, *, overwrite: bool) -> str:
    """Write the lists of a protocol's split into a dataset folder; return what was written, in words.

    Raises:
        InputError: a protocol without a split of its own, no images, or lists that may not be overwritten.
    """
    named([name])
    if name == "afsfm" and frames is not None:
        return splits.write_split(
            datadir,
            lambda all_names: splits.given_frames(all_names, chosen_frames(frames, all_names, datadir)),
            image_dir,
            overwrite=overwrite,
        )
    if name not in SPLITS:
        raise InputError(
            f"--write_split {name}: no split to write",
            found="no --frames FILE" if name == "afsfm" else "a protocol that takes the split of the run",
            expected=f"one of {', '.join(SPLITS)}, or afsfm with --frames FILE",
            do="name one of them",
        )
    return splits.write_split(datadir, SPLITS[name], image_dir, overwrite=overwrite)
