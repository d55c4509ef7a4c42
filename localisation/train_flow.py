"""Train the flow between poses and images of a finished run, from the pairs of `localisation.make_pairs`.

    python -m localisation.train_flow logs/phantom --minutes 15

Weights and their record go to `<run>/localisation/flow`; an interrupted training goes on from its checkpoint.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from localisation.flow import RECORD, PoseFlow
from localisation.learned.network import NetworkShape, VelocityNetwork
from localisation.learned.pairs import Pairs, PoseRange, read_pairs
from localisation.learned.pose_codes import POSE_CODES, fit_code
from localisation.learned.small_images import Shrinker
from localisation.learned.training import FlowTraining, Trained, TrainingOptions
from utils.artifacts import read_json, write_json
from utils.commands import answer
from utils.errors import InputError
from utils.stages import STAMP, read_stamp
from utils.types import Camera

_HELD_OUT, _LARGEST_SHARE = 256, 0.125
_STARTED = "started.json"
_OPEN = ("minutes",)  # what may differ between a training and its continuation


@dataclass(frozen=True)
class Request:
    """What is asked for beside the options of the training."""

    training: TrainingOptions
    pose_code: str = "rays"
    pairs: Path | None = None
    out: Path | None = None


def train_flow(run: Path, request: Request) -> str:
    """Train, or go on; return what a reader would ask for.

    Raises:
        InputError: no pairs, numbers that mean nothing, a trained flow or another training in the folder.
    """
    _check(request)
    folder = request.pairs or run / "localisation" / "pairs"
    out = request.out or run / "localisation" / "flow"
    pairs, record, border = read_pairs(folder)
    _require_field(run, folder, record)
    if len(pairs) < 16:
        raise InputError(
            f"{folder} holds too few pairs",
            found=str(len(pairs)),
            expected="16, thousands for a flow that is worth something",
            do="run `python -m localisation.make_pairs <run> --n 5000`",
        )
    _begin(out, request, record, len(pairs))
    train, held_out = split(pairs)
    torch.manual_seed(request.training.seed)
    flow = untrained(request, train, record, border)
    work = out / "training"
    training = FlowTraining(flow, request.training, train, held_out, work)
    trained = training.run()
    training.flow.record.update(_figures(trained, request))
    training.flow.save(out)
    shutil.rmtree(work)
    return _summary(out, trained, len(train))


def _require_field(run: Path, folder: Path, record: dict[str, Any]) -> None:
    """Raise InputError where the pairs were rendered from another field than the run has now."""
    if not (run / "nerf" / STAMP).exists():  # pairs that came without their run
        return
    now = str(read_stamp(run / "nerf")["hash"])
    if record["field"] != now:
        raise InputError(
            f"{folder} was rendered from another training of the field",
            found=f"pairs of the field {record['field']}",
            expected=f"pairs of {now}",
            do=f"remove {folder}, then run `python -m localisation.make_pairs {run}` again",
        )


def split(pairs: Pairs) -> tuple[Pairs, Pairs]:
    """Return the pairs to learn from and the last few, that are held out."""
    held = min(_HELD_OUT, int(_LARGEST_SHARE * len(pairs)))
    columns = {field.name: getattr(pairs, field.name) for field in fields(pairs)}
    first = {name: values[: len(pairs) - held] for name, values in columns.items()}
    last = {name: values[len(pairs) - held :] for name, values in columns.items()}
    return Pairs(**first), Pairs(**last)


def untrained(request: Request, train: Pairs, record: dict[str, Any], border: Any) -> PoseFlow:
    """Return a flow whose network knows nothing yet, with the scales of the training pairs."""
    size, camera = int(record["options"]["size"]), Camera(**record["camera"])
    shape = NetworkShape(size=size, start_variance=1.0 + request.training.sigma**2)
    poses = PoseRange.from_json(record["range"])
    code = fit_code(
        request.pose_code, camera.resized(size, size), train.world_from_camera, float(record["working_mm"])
    )
    colours = train.rgb.reshape(-1, 3).astype(np.float64) / 255.0
    return PoseFlow(
        VelocityNetwork(shape),
        code,
        Shrinker(camera, border, size),
        poses,
        colours.mean(0),
        np.maximum(colours.std(0), 1e-3),
        request.training.sigma,
        {"field": record["field"], "run": record["run"], "unit": record["unit"], "pairs": record["options"]},
    )


def _begin(out: Path, request: Request, record: dict[str, Any], pairs: int) -> None:
    """Write down what is trained; refuse a folder with a finished flow, or with another training under way."""
    options = {key: value for key, value in asdict(request.training).items() if key not in _OPEN}
    asked = {"field": record["field"], "pairs": record["options"], "n": pairs, "pose_code": request.pose_code}
    asked |= options
    if (out / RECORD).exists():
        raise InputError(
            f"{out} holds a trained flow",
            found=f"{RECORD}, of a training that is over",
            expected="a new folder, or one with an interrupted training",
            do="remove that folder, or choose another --out",
        )
    started = out / "training" / _STARTED
    if started.exists():
        there = read_json(started)
        differing = [
            f"{key} {there.get(key)} there, {asked[key]} now" for key in asked if there.get(key) != asked[key]
        ]
        if differing:
            raise InputError(
                f"{out} holds another training that was interrupted",
                found="; ".join(differing),
                expected="the same pairs and options, to go on",
                do="give the same flags, remove that folder, or choose another --out",
            )
    write_json(started, asked)


def _figures(trained: Trained, request: Request) -> dict[str, Any]:
    return {
        "options": asdict(request.training),
        "steps": trained.steps,
        "seconds": round(trained.seconds, 1),
        "processor_seconds": round(trained.processor_seconds, 1),
        "held_out": {"degrees": round(trained.degrees, 4), "mm": round(trained.mm, 4)},
    }


def _summary(out: Path, trained: Trained, pairs: int) -> str:
    return (
        f"flow in {out}: {trained.steps} steps on {pairs} pairs in {trained.seconds / 60:.1f} min\n"
        f"one step from image to pose, held-out pairs: median {trained.degrees:.2f} degrees, {trained.mm:.2f} mm"
    )


def _check(request: Request) -> None:
    given = request.training
    wrong = [
        f"--{name} {getattr(given, name)}"
        for name in ("minutes", "steps", "batch", "rate")
        if not getattr(given, name) > 0
    ]
    wrong += [] if given.sigma >= 0 else [f"--sigma {given.sigma}"]
    wrong += [] if 0 <= given.average < 1 else [f"--average {given.average}"]
    if wrong:
        raise InputError(
            "nothing can be trained with these numbers",
            found=", ".join(wrong),
            expected="minutes, steps, batch, rate above 0, sigma 0 or more, average in [0, 1)",
            do="correct the flag",
        )


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit status (see `utils.commands`)."""
    usual = TrainingOptions()
    parser = argparse.ArgumentParser(prog="python -m localisation.train_flow", description="Train the flow.")
    parser.add_argument("run", type=Path, help="folder of the run, logs/<expname>, with pairs")
    parser.add_argument("--sigma", type=float, default=usual.sigma, help="noise on the pose side; default 0.1")
    parser.add_argument("--pose_code", choices=POSE_CODES, default="rays", help="how a pose becomes an image")
    parser.add_argument("--minutes", type=float, default=usual.minutes, help="time limit; default 15")
    parser.add_argument("--steps", type=int, default=usual.steps, help=f"limit of steps; default {usual.steps}")
    parser.add_argument("--batch", type=int, default=usual.batch, help=f"pairs a step; default {usual.batch}")
    parser.add_argument("--rate", type=float, default=usual.rate, help="highest learning rate; default 0.001")
    parser.add_argument(
        "--principal", type=float, default=usual.principal, help="weight of small motions; default 1"
    )
    parser.add_argument("--average", type=float, default=usual.average, help="of weights; default 0.998")
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16"), default=usual.precision, help="of products while training"
    )
    parser.add_argument("--seed", type=int, default=usual.seed, help="of weights and draws; default 0")
    parser.add_argument("--no_augment", action="store_true", help="show clean renders only")
    parser.add_argument("--regression", action="store_true", help="train image to pose alone, as a baseline")
    parser.add_argument("--pairs", type=Path, help="default <run>/localisation/pairs")
    parser.add_argument("--out", type=Path, help="default <run>/localisation/flow")
    words = vars(parser.parse_args(arguments))
    run, code, pairs, out = (words.pop(name) for name in ("run", "pose_code", "pairs", "out"))
    training = TrainingOptions(augment=not words.pop("no_augment"), **words)
    return answer(lambda: train_flow(run, Request(training, code, pairs, out)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
