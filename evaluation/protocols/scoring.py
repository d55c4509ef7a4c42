"""Score a run under every protocol that it satisfies, and say under which of them it is refused and why."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluation.lpips import find_weights
from evaluation.options import EvaluationOptions
from evaluation.protocols.frame_list import chosen_frames, read_lines
from evaluation.protocols.named import PROTOCOLS, Scores
from evaluation.protocols.scored_run import Refused, ScoredRun, lpips_paths
from utils.errors import InputError
from utils.images import frame_name, list_images

_COVERED = 0.99  # the codes expect a prediction at every pixel; with fewer the easy ones may have been chosen


def chosen(options: EvaluationOptions) -> list[str]:
    """Return the protocols of `--protocols`, in the order of the table. Raises InputError for a name not known."""
    words = [word.strip() for word in options.protocols.split(",") if word.strip()]
    if words in (["all"], ["none"]):
        return list(PROTOCOLS) if words == ["all"] else []
    return named(words)


def named(words: Sequence[str]) -> list[str]:
    """Return protocols in the order of the table. Raises InputError for a name not known."""
    for word in words:
        if word not in PROTOCOLS:
            near = difflib.get_close_matches(word, PROTOCOLS, n=1)
            raise InputError(
                f"{word}: no such protocol",
                found=word,
                expected=", ".join(PROTOCOLS),
                do=f"say {near[0]}" if near else "name some of these",
            )
    return [name for name in PROTOCOLS if name in words]


def check(options: EvaluationOptions) -> None:
    """Raise InputError for unknown protocols, wrong LPIPS paths and a list of frames that does not fit."""
    chosen(options)
    for net, paths in lpips_paths(options).items():
        find_weights(*paths, net)
    if options.afsfm_frames:
        path, datadir = Path(options.afsfm_frames), Path(options.datadir)
        read_lines(path)
        images = list_images(datadir / "l" / options.image_dir)
        if images:
            chosen_frames(path, [frame_name(image, options.image_dir)[0] for image in images], datadir)


def files(options: EvaluationOptions) -> list[Path]:
    """Return the files outside the run that these scores depend on: weights of LPIPS, the list of frames."""
    if not chosen(options):
        return []
    found = [find_weights(*paths, net)[0] for net, paths in lpips_paths(options).items()]
    weights = [path for one in found if one for path in (one.heads, one.backbone)]
    return weights + ([Path(options.afsfm_frames)] if options.afsfm_frames else [])


def score_protocols(run: ScoredRun, names: Sequence[str]) -> dict[str, Any]:
    """Return the blocks `protocols` and `protocols_refused` (name -> why) of metrics.json; nothing for no name."""
    if not names:
        return {}
    scored: dict[str, Any] = {}
    refused: dict[str, str] = {}
    for name in names:
        try:
            scored[name] = record(PROTOCOLS[name](run), run)
        except Refused as reason:
            refused[name] = str(reason)
    return {"protocols": scored, "protocols_refused": refused}


def record(scores: Scores, run: ScoredRun) -> dict[str, Any]:
    """Return what metrics.json holds of a protocol: numbers, n_frames, split, comparable, and reasons in words.

    A method whose depth has too many holes gets a `comparable` of its own, false; where all have, and where the
    scores themselves are in doubt, it is the protocol's.
    """
    numbers = dict(scores.numbers)
    depth = numbers.get("depth", {})
    poor = [method for method, values in depth.items() if values.get("coverage", 1.0) < _COVERED]
    if poor:
        marks = {method: {"comparable": False} for method in poor}
        numbers["depth"] = {method: {**values, **marks.get(method, {})} for method, values in depth.items()}
    doubts = list(scores.doubts)
    if poor and len(poor) == len(depth):
        doubts.append(f"no method predicts {_COVERED:.0%} of the depth that is asked for")
    if run.factor != 1:
        doubts.append(f"images were made {run.factor} times smaller")
    found = {**numbers, "n_frames": scores.n_frames, "split": scores.split, "comparable": not doubts}
    if doubts:
        found["doubts"] = doubts
    if scores.left_out:
        found["left_out"] = dict(scores.left_out)
    return found
