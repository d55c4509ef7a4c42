"""Does sampling from several conditions give the right distribution? Normal targets, where the truth is known.

`python benchmarks/interpolated_denoising.py` samples pixels whose distribution given each condition is normal,
with every way of joining the conditions, and writes `interpolated_denoising.md` to `benchmarks/results/`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as utils does, before PyTorch is loaded

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import setting
from novel_view.denoising import Conditions, denoise_step, sample
from novel_view.gaussian_prior import GaussianPrior
from novel_view.view_prior import Schedule

HEAD = (
    "conditions",
    "joined by",
    "eta",
    "steps",
    "mean",
    "- truth",
    "std",
    "± over seeds",
    "/ truth",
    "exact std",
)
NOTES = """
Each condition says N(mean, std²) of every pixel; the truth is the weighted geometric product of these, normal with
precision Σ w/std². `noise`: the noise predictions are averaged, then one step is taken with one noise (what
`novel_view.denoising.sample` does). `images`: each condition takes its own step with its own noise, and the
images are averaged. `first alone`: the first condition only. `exact` is the std that the method must have, by
carrying mean and variance through its steps: what is left between it and the truth is the method's own and that
of the size of its steps. Means are over pixels and seeds.

With one common std the averaged noise *is* the noise prediction of the product at every level: only the size of
the steps keeps the std short, by {short_few} with {few} steps and eta 1, by {short_many} with {many}. Averaged
images keep only √(Σ w²) of every fresh noise, and of the std, whatever the number of steps; with eta 0 there is
no fresh noise to lose. With different stds averaging is an approximation that more steps do not mend: the scores
of noised distributions do not add up to that of the noised product, except at the clean end. The result then lies
between the product and the plain mean of the means, is wider than the product, and depends on eta. With eta 0 a
trace of the starting noise's mean stays (3 % of the way to 0): the schedule's noisiest image is not pure noise.
""".strip()


@dataclass(frozen=True)
class Case:
    """What k conditions say of every pixel: means, spreads and weights (k,)."""

    means: tuple[float, ...]
    stds: tuple[float, ...]
    weights: tuple[float, ...]

    @property
    def product(self) -> tuple[float, float]:
        """Mean and std of the weighted geometric product."""
        precision = np.array(self.weights) / np.square(self.stds)
        return float(precision @ self.means / precision.sum()), float(precision.sum() ** -0.5)

    def prior(self, size: int, chosen: slice = slice(None)) -> tuple[GaussianPrior, Conditions]:
        """Return prior and conditions of size x size pixels; the weights of `chosen` ones are made to sum to 1."""
        means, stds, weights = (
            torch.tensor(values[chosen], dtype=torch.float32) for values in (self.means, self.stds, self.weights)
        )
        k = len(means)
        prior = GaussianPrior(
            means[:, None, None, None].expand(k, 3, size, size), stds[:, None, None, None].expand(k, 1, size, size)
        )
        return prior, Conditions(
            torch.zeros_like(prior.means), torch.eye(4).expand(k, 4, 4), weights / weights.sum()
        )


ALIKE = Case((-0.6, -0.2, 0.2, 0.6), (0.5,) * 4, (0.25,) * 4)
UNEVEN = Case((-0.4, 0.4), (0.5, 0.5), (0.8, 0.2))
DIFFERENT = Case((-0.4, 0.4), (0.2, 0.8), (0.5, 0.5))
CASES = {
    "4, std 0.5, equal weights": ALIKE,
    "2, std 0.5, weights 0.8 and 0.2": UNEVEN,
    "2, std 0.2 and 0.8, equal weights": DIFFERENT,
}
Method = Callable[[Case, int, int, float, torch.Generator], Tensor]


def by_noise(case: Case, size: int, steps: int, eta: float, generator: torch.Generator) -> Tensor:
    """Return a sample of the product's way: noise predictions averaged."""
    return sample(*case.prior(size), steps, eta, generator)


def by_images(case: Case, size: int, steps: int, eta: float, generator: torch.Generator) -> Tensor:
    """Return a sample of the wrong way: branches with noises of their own, their images x_{t-1} averaged."""
    prior, conditions = case.prior(size)
    codes = torch.randn((1, 3, size, size), generator=generator)
    weights = conditions.weights[:, None, None, None]
    for step, kept in _walk(prior.schedule, steps):
        shared = codes.expand(len(weights), -1, -1, -1)
        noise = prior.predict_noise(conditions.images, conditions.target_from_conditions, shared, step)
        fresh = torch.randn(shared.shape, generator=generator)
        codes = (weights * denoise_step(shared, noise, kept, eta, fresh)).sum(0, keepdim=True)
    return codes


def first_alone(case: Case, size: int, steps: int, eta: float, generator: torch.Generator) -> Tensor:
    """Return a sample from the first condition."""
    return sample(*case.prior(size, slice(1)), steps, eta, generator)


METHODS: dict[str, Method] = {"noise": by_noise, "images": by_images, "first alone": first_alone}


def exact_moments(
    case: Case, schedule: Schedule, steps: int, eta: float, share_of_fresh: float = 1.0
) -> tuple[float, float]:
    """Return mean and std of what averaging gives, carried through its steps: every step is affine in the image.

    Args:
        case: the conditions.
        schedule: of the noise.
        steps, eta: of the sampler.
        share_of_fresh: what is left of the variance of fresh noise: 1, or sum of squared weights where branches
            draw their own.
    """
    means, stds, weights = (np.array(values) for values in (case.means, case.stds, case.weights))
    mean, variance = 0.0, 1.0
    for _, (now, then) in _walk(schedule, steps):
        noised = now * stds**2 + 1.0 - now
        slope = (1.0 - now) ** 0.5 * float((weights / noised).sum())
        offset = -((1.0 - now) ** 0.5) * now**0.5 * float((weights * means / noised).sum())
        fresh = eta**2 * (1.0 - then) / (1.0 - now) * (1.0 - now / then)
        of_noise = (1.0 - then - fresh) ** 0.5 - (then / now) ** 0.5 * (1.0 - now) ** 0.5
        factor = (then / now) ** 0.5 + of_noise * slope
        mean, variance = factor * mean + of_noise * offset, factor**2 * variance + share_of_fresh * fresh
    return mean, variance**0.5


def _walk(schedule: Schedule, steps: int) -> list[tuple[int, tuple[float, float]]]:
    """Return index and (kept now, kept then) of every step, as `sample` takes them."""
    levels = torch.linspace(len(schedule) - 1, 0, steps).round().long().tolist()
    kept = [*schedule.kept[levels].tolist(), 1.0]
    return list(zip(levels, pairwise(kept), strict=True))


def main(argv: Sequence[str]) -> int:
    """Sample every case with every method and write the table; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "", allow_abbrev=False)
    parser.add_argument("--steps", type=int, nargs="+", default=[50, 100, 1000])
    parser.add_argument("--etas", type=float, nargs="+", default=[0.0, 1.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--size", type=int, default=48, help="pixels a side; every one of them is a sample")
    parser.add_argument("--out", type=Path, default=setting.RESULTS, help="folder for tables")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    rows = [
        measure(name, method, eta, steps, given.size, given.seeds)
        for name in CASES
        for method in METHODS
        for eta in given.etas
        for steps in given.steps
    ]
    command = setting.command_line("interpolated_denoising.py", argv)
    samples = f"{len(given.seeds)} seeds of {3 * given.size**2} values each"
    parts = ["# Sampling from several conditions", "", f"- `{command}`: {samples}", f"- {setting.machine()}", ""]
    text = "\n".join([*parts, _notes(given.steps), "", *setting.markdown_rows([HEAD, *rows]), ""])
    (given.out / "interpolated_denoising.md").write_text(text)
    sys.stdout.write(text)
    return 0


def measure(name: str, method: str, eta: float, steps: int, size: int, seeds: Sequence[int]) -> tuple[str, ...]:
    """Return a row: mean and std over pixels and seeds against the product, and the std that must come out."""
    case = CASES[name]
    found = [METHODS[method](case, size, steps, eta, torch.Generator().manual_seed(seed)) for seed in seeds]
    means, stds = (np.array([float(getattr(image, kind)()) for image in found]) for kind in ("mean", "std"))
    alone = Case(case.means[:1], case.stds[:1], (1.0,)) if method == "first alone" else case
    left = float(np.square(case.weights).sum()) if method == "images" else 1.0
    _, exact = exact_moments(alone, Schedule.linear(), steps, eta, left)
    mean, std = case.product
    off = means.mean() - mean
    numbers = (f"{means.mean():+.3f}", f"{off:+.3f}", f"{stds.mean():.3f}", f"{stds.std():.3f}")
    return name, method, f"{eta:g}", str(steps), *numbers, f"{stds.mean() / std:.2f}", f"{exact:.3f}"


def _notes(steps: Sequence[int]) -> str:
    few, many = 50 if 50 in steps else min(steps), max(steps)
    short = [1.0 - exact_moments(ALIKE, Schedule.linear(), count, 1.0)[1] / 0.5 for count in (few, many)]
    return NOTES.format(few=few, many=many, short_few=f"{short[0]:.0%}", short_many=f"{short[1]:.0%}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
