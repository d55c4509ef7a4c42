"""Train the flow between poses and images of a scene: straight paths, a time limit, averaged weights, checkpoints.

x_0 = z(pose) + sigma noise, x_1 = image, x_t = (1 - t) x_0 + t x_1, loss |v(x_t, t) - (x_1 - x_0)|^2 (Lipman et
al. 2023, Liu et al. 2023). Both ends are asked more than the times between, and so they are drawn more often.

A turn about the optical axis or a step along it moves the rays of a narrow view little, and the plain loss leaves
them to the end. So the error is counted once more along the principal directions of the codes, each in its own
standard deviation: another weight of the same squares, with the same best answer.
"""

from __future__ import annotations

import copy
import csv
import io
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from localisation.flow import PoseFlow
from localisation.learned.camera_likeness import camera_like
from localisation.learned.pairs import Pairs
from utils.errors import InputError
from utils.geometry import invert_rigid, rotation_angle_degrees
from utils.types import FloatArray

CHECKPOINT, TABLE = "checkpoint.pt", "train.csv"
_WARM_UP, _LAST_RATE = 0.03, 0.01  # share of the training; share of the learning rate
_LARGEST_GRADIENT, _WEIGHT_DECAY = 1.0, 0.01
_AT_POSE, _AT_IMAGE = 0.15, 0.45  # shares of the draws at t = 0 and at t = 1
_LOOK_EVERY, _SAVE_EVERY = 200, 200
_PRINCIPAL, _ENOUGH_CODES = 8, 300
_AT_ONCE = 500  # poses that are encoded together, in float64


@dataclass(frozen=True)
class TrainingOptions:
    """How the flow is trained.

    Attributes:
        sigma: of the noise on the pose side, in standard deviations.
        regression: train the step from image to pose alone, the baseline of the flow.
        augment: show images as cameras take them, too.
        minutes, steps: whichever ends first; the learning rate falls towards that end.
        batch, rate, seed: as they say.
        principal: weight of the error along the principal directions of the codes.
        average: of the weights, over about 1 / (1 - average) steps.
        precision: of the products while training: float32, or bfloat16, twice as fast where the processor has it.
    """

    sigma: float = 0.1
    regression: bool = False
    augment: bool = True
    minutes: float = 15.0
    steps: int = 10000
    batch: int = 64
    rate: float = 1e-3
    principal: float = 1.0
    average: float = 0.998
    precision: str = "float32"
    seed: int = 0


@dataclass(frozen=True)
class Trained:
    """What a training came to: steps, seconds (by the clock, of one core), median errors of held-out pairs."""

    steps: int
    seconds: float
    processor_seconds: float
    degrees: float
    mm: float


class FlowTraining:
    """A training under way: network, averaged network, optimiser, steps and seconds done.

    Args:
        flow: with the network to train; its code and image scale are those of the training pairs.
        train, held_out: pairs to learn from and to look at meanwhile.
        work: folder of the checkpoint and of `train.csv`.
    """

    def __init__(
        self, flow: PoseFlow, options: TrainingOptions, train: Pairs, held_out: Pairs, work: Path
    ) -> None:
        self.options, self.held_out, self.work = options, held_out, work
        self.network = flow.network.train()
        self.flow = replace(flow, network=copy.deepcopy(flow.network).eval())
        poses = np.array_split(train.world_from_camera, -(-len(train) // _AT_ONCE))
        self.codes = torch.from_numpy(np.concatenate([flow.code.encode(part) for part in poses]))
        self.principal = _principal_directions(self.codes)
        self.images = torch.from_numpy(train.rgb).permute(0, 3, 1, 2).contiguous()
        self.unknown = torch.from_numpy(np.isnan(train.depth_mm))
        self.border = torch.from_numpy(flow.shrinker.border_share)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=options.rate, weight_decay=_WEIGHT_DECAY, betas=(0.9, 0.98), fused=True
        )
        self.step, self.seconds, self.processor_seconds = 0, 0.0, 0.0

    def run(self) -> Trained:
        """Train to the end, from a checkpoint where there is one; `flow` then holds the averaged weights."""
        self.work.mkdir(parents=True, exist_ok=True)
        self._resume()
        started, worked = time.monotonic() - self.seconds, time.process_time() - self.processor_seconds
        errors, average = (float("nan"), float("nan")), float("nan")
        bar = tqdm(total=self.options.steps, initial=self.step, desc="flow, training", unit="step", disable=None)
        with bar, (self.work / TABLE).open("a" if self.step else "w", newline="") as file:
            table = csv.writer(file)
            if not self.step:
                table.writerow(["step", "seconds", "loss", "learning_rate", "degrees", "mm"])
            while self.progress < 1.0:
                rate, loss = self._step()
                self.seconds = time.monotonic() - started
                self.processor_seconds = time.process_time() - worked
                average = loss if np.isnan(average) else 0.98 * average + 0.02 * loss
                bar.update()
                if self.step % _LOOK_EVERY == 0 or self.progress >= 1.0:
                    errors = self.held_out_errors()
                    rows = [f"{self.seconds:.1f}", f"{average:.5f}", f"{rate:.2e}", *(f"{e:.4f}" for e in errors)]
                    table.writerow([self.step, *rows])
                if self.step % _SAVE_EVERY == 0 or self.progress >= 1.0:
                    file.flush()
                    self._save()
                bar.set_postfix_str(
                    f"loss {average:.4f}, held out {errors[0]:.2f} degrees {errors[1]:.2f} mm", refresh=False
                )
        if np.isnan(errors[0]):  # all was done before
            errors = self.held_out_errors()
        return Trained(self.step, self.seconds, self.processor_seconds, *errors)

    @property
    def progress(self) -> float:
        """Return how much of the training is done, by steps or by time, whichever is more."""
        return max(self.step / self.options.steps, self.seconds / (60.0 * self.options.minutes))

    def held_out_errors(self) -> tuple[float, float]:
        """Return median errors of one step with the averaged weights, in degrees and mm."""
        small = self.held_out.rgb.astype(np.float32) / 255.0
        found = self.flow.invert_small(small).world_from_camera
        return tuple(float(np.median(errors)) for errors in pose_errors(found, self.held_out.world_from_camera))  # type: ignore[return-value]

    def _step(self) -> tuple[float, float]:
        """Do one step, drawn from its number alone; return learning rate and loss."""
        rate = _rate_at(self.progress, self.options.rate)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        generator = torch.Generator().manual_seed(self.options.seed * 1_000_003 + self.step)
        loss = self._loss(generator)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        length = float(torch.nn.utils.clip_grad_norm_(self.network.parameters(), _LARGEST_GRADIENT))
        value = float(loss.detach())
        if not (np.isfinite(value) and np.isfinite(length)):
            raise InputError(
                f"the training of the flow diverged at step {self.step}",
                found=f"a loss of {value} with a gradient of length {length} at a learning rate of {rate:g}",
                expected="numbers",
                do="lower --rate",
            )
        self.optimiser.step()
        self.step += 1
        self._average()
        return rate, value

    def _loss(self, generator: torch.Generator) -> Tensor:
        options = self.options
        which = torch.randint(len(self.codes), (options.batch,), generator=generator)
        kind, between = torch.rand(2, options.batch, generator=generator)
        t = torch.where(kind < _AT_POSE, 0.0, torch.where(kind > 1.0 - _AT_IMAGE, 1.0, between))
        if options.regression:
            t = torch.ones_like(t)
        changed = torch.rand(options.batch, generator=generator) < t
        images = self.images[which].float() / 255.0
        if options.augment:
            as_taken = camera_like(images, self.unknown[which], self.border, generator)
            images = torch.where(changed[:, None, None, None], as_taken, images)
        x1 = self._standardised(images)
        noise = torch.randn(x1.shape, generator=generator)
        x0 = self.codes[which] + (0.0 if options.regression else options.sigma) * noise
        time = t[:, None, None, None]
        with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bfloat16"):
            velocity = self.network((1.0 - time) * x0 + time * x1, t, changed)
        error = (velocity - (x1 - x0)).flatten(1)
        return error.square().mean() + options.principal * (error @ self.principal).square().mean()

    def _standardised(self, images: Tensor) -> Tensor:
        mean, std = (
            torch.tensor(values, dtype=torch.float32)[:, None, None]
            for values in (self.flow.image_mean, self.flow.image_std)
        )
        return ((images - mean) / std).repeat(1, 2, 1, 1)

    @torch.no_grad()
    def _average(self) -> None:
        """Move the averaged weights towards the present ones; in the beginning they follow closely."""
        kept = min(self.options.average, (1 + self.step) / (10 + self.step))
        for mean, now in zip(self.flow.network.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(now, 1.0 - kept)

    def _save(self) -> None:
        content = {
            "network": self.network.state_dict(),
            "averaged": self.flow.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "processor_seconds": self.processor_seconds,
        }
        data = io.BytesIO()
        torch.save(content, data)
        partial = self.work / f"{CHECKPOINT}.partial"
        partial.write_bytes(data.getvalue())
        partial.replace(self.work / CHECKPOINT)

    def _resume(self) -> None:
        path = self.work / CHECKPOINT
        if not path.exists():
            return
        content: dict[str, Any] = torch.load(path, weights_only=True)
        self.network.load_state_dict(content["network"])
        self.flow.network.load_state_dict(content["averaged"])
        self.optimiser.load_state_dict(content["optimiser"])
        self.step, self.seconds = int(content["step"]), float(content["seconds"])
        self.processor_seconds = float(content["processor_seconds"])
        lines = (self.work / TABLE).read_text().splitlines(keepends=True)
        kept = [line for line in lines[1:] if int(line.split(",")[0]) <= self.step]
        (self.work / TABLE).write_text("".join([lines[0], *kept]))


def _principal_directions(codes: Tensor) -> Tensor:
    """Return (values, k): the directions in which codes (n, ...) differ most, divided by how much they do."""
    some = codes[:_ENOUGH_CODES].flatten(1)
    _, spread, directions = torch.linalg.svd(some - some.mean(0), full_matrices=False)
    spread = spread / len(some) ** 0.5
    kept = spread[:_PRINCIPAL] > 1e-3 * spread[0]
    return (directions[:_PRINCIPAL][kept] / spread[:_PRINCIPAL][kept][:, None]).T.contiguous()


def pose_errors(found: FloatArray, truth: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return rotation errors in degrees and distances of the centres in mm, (n,) each, of poses (n, 4, 4)."""
    turned = rotation_angle_degrees((invert_rigid(truth) @ found)[:, :3, :3])
    return turned, np.linalg.norm(found[:, :3, 3] - truth[:, :3, 3], axis=1)


def _rate_at(progress: float, highest: float) -> float:
    """Return the learning rate at a share of the training: a short rise, then half a cosine down."""
    if progress < _WARM_UP:
        return highest * max(progress, 1e-4) / _WARM_UP
    share = (progress - _WARM_UP) / (1.0 - _WARM_UP)
    return highest * (_LAST_RATE + (1.0 - _LAST_RATE) * 0.5 * (1.0 + float(np.cos(np.pi * min(share, 1.0)))))
