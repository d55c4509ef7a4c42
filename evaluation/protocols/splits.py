"""Which frames a protocol trains on and scores, whether a run kept to it, and lists that make a run keep to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.protocols.scored_run import Refused
from evaluation.scores import listed
from utils.errors import InputError
from utils.images import frame_name, list_images
from utils.scene import Scene

EVERY = 8
LISTS = ("train.txt", "test.txt")
SEEN = "trained on what it is scored on"


@dataclass(frozen=True)
class Split:
    """Which frames are trained on and which are scored, each in the scene's order, and that in words."""

    train: tuple[str, ...]
    scored: tuple[str, ...]
    words: str

    @property
    def held_out(self) -> bool:
        """Whether no frame is scored that was trained on."""
        return not set(self.train) & set(self.scored)


def all_but_first(names: Sequence[str]) -> Split:
    """Train on all frames, score all but the first: EndoNeRF, EndoGS."""
    return Split(tuple(names), tuple(names[1:]), f"{SEEN}, all frames but the first")


def all_frames(names: Sequence[str]) -> Split:
    """Train on all frames, score all: ForPlane on EndoNeRF."""
    return Split(tuple(names), tuple(names), f"{SEEN}, all frames")


def every_eighth(names: Sequence[str]) -> Split:
    """Hold out frame i, counted from 0, where (i - 1) mod 8 = 0: EndoSurf, EndoGaussian and those after them."""
    scored = tuple(name for index, name in enumerate(names) if (index - 1) % EVERY == 0)
    return Split(_rest(names, scored), scored, "held out, every 8th frame from the second on")


def odd_frames(names: Sequence[str]) -> Split:
    """Train on frames 0, 2, 4, ..., hold out 1, 3, 5, ...: ForPlane on Hamlyn."""
    return Split(tuple(names[::2]), tuple(names[1::2]), "held out, frames 1, 3, 5, ... counted from 0")


def given_frames(names: Sequence[str], chosen: Sequence[str]) -> Split:
    """Hold out the frames of a list, train on the rest."""
    scored = tuple(name for name in names if name in set(chosen))
    return Split(_rest(names, scored), scored, "held out, the frames of the list")


def own_split(names: Sequence[str]) -> Split:
    """Hold out frames 0, 8, 16, ...: what a run does without lists; a single frame is trained on."""
    scored = tuple(names[::EVERY]) if len(names) > 1 else ()
    return Split(_rest(names, scored), scored, "held out, every 8th frame from the first on")


def _rest(names: Sequence[str], scored: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in set(scored))


def require(scene: Scene, split: Split) -> Split:
    """Return the split where a run kept to it. Raises Refused, in words, where it did not."""
    names, train, test = scene.names, set(scene.train), set(scene.test)
    if not split.scored:
        raise Refused(f"a sequence of {len(names)} frame has none that it would score")
    if not split.held_out:
        if train != set(split.train):
            left = len(names) - len(train)
            raise Refused(
                f"it trains on all frames, and this run held {left} of {len(names)} out: "
                "what was held out scores lower than what was trained on"
            )
        return split
    if train == set(names):
        raise Refused("it scores frames that were held out, and this run trained on all frames")
    if test == set(split.scored) and train == set(split.train):
        return split
    wanted = f"it holds out {listed(split.scored)}"
    if test != set(split.scored):
        raise Refused(f"{wanted}; this run holds out {listed(scene.test) or 'none'}")
    raise Refused(
        f"{wanted} and trains on all others; this run trains on {len(train)} of those {len(split.train)}"
    )


def require_held_out(scene: Scene, split: Split) -> Split:
    """Return the split where none of its scored frames was trained on. Raise Refused where one was."""
    trained = [name for name in split.scored if name not in scene.test]
    if trained:
        raise Refused(
            f"it scores frames that no training saw; of its {len(split.scored)} the run did not hold out "
            f"{len(trained)}: {listed(trained)}"
        )
    return split


def write_split(
    datadir: Path, split_of: Callable[[Sequence[str]], Split], image_dir: str, *, overwrite: bool
) -> str:
    """Write `train.txt` and `test.txt` of a split into a dataset folder; return what was written, in words.

    A split that scores what it trains on gets an empty `test.txt`: to the pipeline all frames are training frames,
    none passes for held out.

    Raises:
        InputError: no images, or lists that are there already and may not be overwritten.
    """
    names = [frame_name(path, image_dir)[0] for path in list_images(datadir / "l" / image_dir)]
    if not names:
        raise InputError(
            f"{datadir / 'l' / image_dir} has no images",
            found="a folder without png, jpg or tif files" if datadir.is_dir() else "no such folder",
            expected="a dataset folder with l/images",
            do="correct the path (and --image_dir)",
        )
    present = [name for name in LISTS if (datadir / name).exists()]
    if present and not overwrite:
        raise InputError(
            f"{datadir} has lists of frames already",
            found=" and ".join(present),
            expected="a dataset without them, so that nothing of yours is lost",
            do="move them away, or say --overwrite",
        )
    split = split_of(names)
    test = split.scored if split.held_out else ()
    for file, chosen in zip(LISTS, (split.train, test), strict=True):
        partial = datadir / f"{file}.partial"
        partial.write_text("".join(f"{name}\n" for name in chosen), encoding="utf-8")
        os.replace(partial, datadir / file)
    return f"{datadir}: {len(split.train)} training frames, {len(test)} held out ({split.words})"
