"""How far a training step and a rendered frame are from what the machine can do, kernel by kernel.

`python benchmarks/roofline.py` writes `roofline.md` to `benchmarks/results/`. Operations and bytes are counted
from the sizes of what is computed; seconds are those of the product's own kernels at work; the machine's rates
are measured in the same run.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as utils does, before PyTorch is loaded

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks import setting
from benchmarks.machine_rates import Rates, machine_rates
from benchmarks.setting import Example
from nerf import compiled_step, compiled_view, hash_lookup, plane_lookup, ray_batch, sampling, table
from nerf.fields import SurfaceField
from nerf.guidance import TrainingDepth
from nerf.images import render_image
from nerf.trainer import Trainer
from nerf.training import CHUNK, build_trainer
from utils.compiled import cores, share
from utils.errors import InputError
from utils.scene import Scene, load_poses

SHARING = (compiled_step, compiled_view, hash_lookup, plane_lookup, ray_batch, sampling, table)
# What each kernel is called in the tables.
NAMES = {
    "_fill": "rays and samples from pixels",
    "sample_rays": "samples along rays",
    "_place": "points in the box",
    "_gather": "look-ups in the table",
    "step_rays": "networks, compositing, light, losses, and back",
    "_scatter": "gradients into the table",
    "_adam": "Adam over the table",
    "_see": "network and compositing",
    "_shade": "light and colour",
}
CORNERS = {"planes": 12, "hash": 8}  # rows that one level of a point is made of
SINGLE = 4  # bytes
HEAD = (
    "what",
    "ms",
    "share",
    "Mflop",
    "Gflop/s",
    "of the matrix rate",
    "MB touched",
    "GB/s",
    "of the memory rate",
)


@dataclass(frozen=True)
class Work:
    """Floating-point operations of the networks, and bytes read and written."""

    operations: float = 0.0
    touched: float = 0.0


def main(argv: Sequence[str]) -> int:
    """Measure a step and a frame of one phantom and write the tables; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "", allow_abbrev=False)
    parser.add_argument("--rig", default="parallel", choices=("parallel", "verged"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--warm", type=int, default=600, help="steps before those that are measured; default 600")
    parser.add_argument("--steps", type=int, default=200, help="steps that are measured; default 200")
    parser.add_argument("--rendered", type=int, default=6, help="frames that are measured; default 6")
    setting.add_example_flags(parser)
    given, extra = parser.parse_known_args(argv)
    try:
        example = Example(given.rig, given.seed, given.frames, given.width, given.height, tuple(extra))
        text = measure(example, given, setting.command_line("roofline.py", argv))
    except InputError as error:
        sys.stderr.write(f"\nerror: {error}\n")
        return 2
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "roofline.md").write_text(text)
    sys.stdout.write("\n" + text)
    return 0


def measure(example: Example, given: argparse.Namespace, command: str) -> str:
    """Return the tables of one phantom."""
    root = setting.prepare(example)
    options = setting.read_options(example.flags(example.upstream))["nerf"]
    dataset, placed = Scene.load(root / "scene"), load_poses(root / "poses")
    trainer = build_trainer(options, dataset, placed, root / "prior", torch.device("cpu"))
    if not isinstance(trainer.model.field, SurfaceField):
        raise InputError(
            "no compiled step to measure", found=options.field, expected="planes or hash", do="name one"
        )
    for _ in range(given.warm):
        trainer.advance()
    rates = machine_rates(trainer.model.field)
    with timed() as spent:
        began = time.perf_counter()
        for _ in range(given.steps):
            trainer.advance()
        step_s = (time.perf_counter() - began) / given.steps
    parts = {name: seconds / given.steps for name, (seconds, _) in spent.items()}
    lines = [f"## A step: {options.N_rand} rays of {options.N_samples} samples, {1000 * step_s:.1f} ms", ""]
    lines += table_of(parts, step_s, step_work(trainer), rates)
    depths = {
        view: trainer.pool.depth[trainer.pool.view_slice(index)]
        .numpy()
        .reshape(-1, int(trainer.pool.widths[index]))
        for index, view in enumerate(trainer.pool.views)
    }
    guide = TrainingDepth(dataset, placed, depths)
    guides = [guide.guide(view) for view in trainer.pool.views[: given.rendered]]
    frame(trainer, guides[:1])
    with timed() as spent:
        began = time.perf_counter()
        frame(trainer, guides)
        frame_s = (time.perf_counter() - began) / len(guides)
    parts = {name: seconds / len(guides) for name, (seconds, _) in spent.items()}
    calls = {name: count / len(guides) for name, (_, count) in spent.items()}
    height, width = guides[0].shape
    lines += [
        "",
        f"## A frame of {width} × {height} px with depth: {frame_s:.3f} s, {1 / frame_s:.1f} a second",
        "",
    ]
    lines += table_of(parts, frame_s, frame_work(trainer, calls), rates)
    return "\n".join([*head(rates, command), *lines, ""])


def head(rates: Rates, command: str) -> list[str]:
    """Return what stands above the tables."""
    return [
        "# Roofline",
        "",
        f"`{command}`",
        "",
        setting.machine(),
        "",
        f"Measured on {cores()} cores: {rates.matrix / 1e9:.0f} Gflop/s multiplying matrices of 2048 × 2048 "
        f"(torch), {rates.own_product / 1e9:.0f} Gflop/s with our own product at the sizes of the field's "
        f"network, {rates.memory / 1e9:.0f} GB/s copying (read and written). Operations are those of the "
        "networks' products, forwards and backwards; bytes are those of table rows, parameters and features that "
        "are read or written, whether they come from a cache or not: more than the memory rate means that caches "
        "help.",
        "",
    ]


@contextmanager
def timed() -> Iterator[dict[str, list[float]]]:
    """Note seconds and items of every shared kernel, by its name."""
    spent: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])

    def noting(kernel: Callable[..., None], count: int, *arguments: Any) -> None:
        began = time.perf_counter()
        share(kernel, count, *arguments)
        entry = spent[kernel.__name__]
        entry[0] += time.perf_counter() - began
        entry[1] += count

    for module in SHARING:
        module.share = noting  # type: ignore[attr-defined]
    try:
        yield spent
    finally:
        for module in SHARING:
            module.share = share  # type: ignore[attr-defined]


def frame(trainer: Trainer, guides: Sequence[Any]) -> None:
    """Render as many training views as there are guides."""
    for index, guide in enumerate(guides):
        render_image(trainer.model, trainer.pool.cameras, index, guide, guide, 1.0, CHUNK)


def network_operations(trainer: Trainer, points: float, rays: float) -> tuple[float, float]:
    """Return operations of the network of samples and of that of rays, forwards."""
    model: Any = trainer.model
    of_points = sum(2 * layer.weight.numel() for layer in (model.field.hidden, model.field.distance))
    radiance = model.radiance
    layers = (radiance.trunk, radiance.body, radiance.colour, radiance.highlights)
    return points * of_points, rays * sum(2 * layer.weight.numel() for layer in layers)


def row_bytes(trainer: Trainer, points: float) -> float:
    """Return bytes of the table's rows that points are made of."""
    model: Any = trainer.model
    layout = model.field.layout
    levels = layout.features // layout.channels
    return points * levels * CORNERS[trainer.options.field] * layout.channels * SINGLE


def step_work(trainer: Trainer) -> dict[str, Work]:
    """Return what the kernels of a step do, everything awake."""
    rays = trainer.options.N_rand
    points = rays * trainer.options.N_samples
    rows, features = row_bytes(trainer, points), points * trainer.model.field.features * SINGLE
    table_numbers = sum(one.numel() for one in trainer.model.field.tables)
    return {
        "_gather": Work(touched=rows + features),
        "step_rays": Work(3 * sum(network_operations(trainer, points, rays)), 2 * features),
        "_scatter": Work(touched=2 * rows + features),
        # Reads value, gradient, mean and square, and writes them.
        "_adam": Work(touched=8 * table_numbers * SINGLE),
    }


def frame_work(trainer: Trainer, calls: dict[str, float]) -> dict[str, Work]:
    """Return what the kernels of a frame do; `calls` are their items: points looked up, rays seen and shaded."""
    points, shaded = calls["_gather"], calls["_shade"]
    features = points * trainer.model.field.features * SINGLE
    of_points, of_rays = network_operations(trainer, points, shaded)
    return {
        "_gather": Work(touched=row_bytes(trainer, points) + features),
        "_see": Work(of_points, features),
        "_shade": Work(of_rays, shaded * trainer.model.field.features * SINGLE),
    }


def table_of(parts: dict[str, float], whole_s: float, work: dict[str, Work], rates: Rates) -> list[str]:
    """Return the rows of a table: kernels by their seconds, then what is left, then the whole."""
    rows: list[Sequence[str]] = [HEAD]
    left = whole_s - sum(parts.values())
    for name, seconds in sorted(parts.items(), key=lambda item: -item[1]):
        rows.append(_row(NAMES.get(name, name), seconds, whole_s, work.get(name, Work()), rates))
    rows.append(_row("everything else: drawing pixels, Python", left, whole_s, Work(), rates))
    total = Work(sum(one.operations for one in work.values()), sum(one.touched for one in work.values()))
    rows.append(_row("all", whole_s, whole_s, total, rates))
    return setting.markdown_rows(rows)


def _row(name: str, seconds: float, whole_s: float, work: Work, rates: Rates) -> list[str]:
    def of(amount: float, rate: float) -> list[str]:
        if not amount:
            return ["", "", ""]
        reached = amount / seconds
        return [f"{amount / 1e6:.0f}", f"{reached / 1e9:.1f}", f"{100 * reached / rate:.0f} %"]

    shares = [f"{1000 * seconds:.2f}", f"{100 * seconds / whole_s:.0f} %"]
    return [name, *shares, *of(work.operations, rates.matrix), *of(work.touched, rates.memory)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
