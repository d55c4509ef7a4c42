"""Measure the stereo sources and the fused prior against the phantom's truth: both rigs, several seeds.

`python benchmarks/stereo_sources.py --sources sgbm --seeds 0 1 2 --out logs/stereo_sources` writes table.md there.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from monocular import poses as poses_stage  # noqa: E402
from stereo_prior import matches as matches_stage  # noqa: E402
from stereo_prior import prior as prior_stage  # noqa: E402
from stereo_prior import scene as scene_stage  # noqa: E402
from stereo_prior import stereo as stereo_stage  # noqa: E402
from utils.artifacts import load_maps  # noqa: E402
from utils.images import find_map, read_map  # noqa: E402
from utils.phantom import DEPTH_PNG_MM, PhantomOptions, make_phantom  # noqa: E402
from utils.scene import Scene  # noqa: E402

log = logging.getLogger("specula")

HEAD = ("rig", "seed", "what", "abs_rel", "median", "coverage", "confident half", "doubtful half", "seconds")


def main(argv: Sequence[str]) -> None:
    """Run every source on every phantom and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", nargs="+", default=["sgbm"], choices=sorted(stereo_stage.SOURCES))
    parser.add_argument("--rigs", nargs="+", default=["parallel", "verged"], choices=("parallel", "verged"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--out", type=Path, default=ROOT / "logs" / "stereo_sources")
    chosen = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING)
    rows = [HEAD, ("---",) * len(HEAD)]
    for rig in chosen.rigs:
        for seed in chosen.seeds:
            folder = chosen.out / f"{rig}_{seed}"
            rows += [(rig, str(seed), *row) for row in measure(folder, rig, seed, chosen.frames, chosen.sources)]
            table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
            (chosen.out / "table.md").write_text(table + "\n")
    sys.stdout.write(table + "\n")


def measure(folder: Path, rig: str, seed: int, frames: int, sources: Sequence[str]) -> list[tuple[str, ...]]:
    """Run the stages from `scene` to `prior` on one phantom; return one row a source and one for the prior."""
    data = folder / "data"
    if not data.exists():
        make_phantom(data, PhantomOptions(rig, phantom_seed=seed, phantom_frames=frames))
    inputs: dict[str, Path] = {}

    def step(name: str, run: Callable[..., str], options: Any, reads: Sequence[str]) -> float:
        out = folder / name
        out.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        run(options, out=out, **{one: inputs[one] for one in reads})
        inputs[name] = out
        return time.monotonic() - began

    step("scene", scene_stage.run, scene_stage.SceneOptions(datadir=str(data)), ())
    step("matches", matches_stage.run, matches_stage.MatchOptions(viz=False), ("scene",))
    step("poses", poses_stage.run, poses_stage.PosesOptions(datadir=str(data)), ("scene", "matches"))
    reads = ("scene", "matches")
    rows = []
    for source in sources:
        seconds = step("stereo", stereo_stage.run, stereo_stage.StereoOptions(stereo=source), reads)
        rows.append(score(source, data, inputs["scene"], inputs["stereo"] / source, seconds))
    seconds = step("prior", prior_stage.run, prior_stage.PriorOptions(), ("scene", "matches", "stereo", "poses"))
    rows.append(score("prior", data, inputs["scene"], inputs["prior"], seconds))
    return rows


def score(what: str, data: Path, scene: Path, maps: Path, seconds: float) -> tuple[str, ...]:
    """Compare depth maps with the truth on tissue, in both eyes."""
    loaded = Scene.load(scene)
    frames, trusted, doubted = [], [], []
    for side in loaded.sides:
        for name in loaded.names:
            path = find_map(data / side[0] / "depth", name)
            if path is None:
                continue
            truth_mm = read_map(path) * DEPTH_PNG_MM
            found, (tissue, _) = load_maps(maps, side, name), loaded.masks(side, name)
            region = tissue & (truth_mm > 0)
            valid = region & np.isfinite(found["depth_mm"])
            off = np.abs(found["depth_mm"][valid] / truth_mm[valid] - 1)
            trust = found["confidence"][valid]
            sure = trust > np.median(trust)
            frames.append((off.mean(), np.median(off), valid.sum() / region.sum()))
            trusted.append(off[sure].mean())
            doubted.append(off[~sure].mean())
    abs_rel, middle, coverage = np.mean(frames, axis=0)
    halves = (np.mean(trusted), np.mean(doubted))
    numbers = (f"{abs_rel:.4f}", f"{middle:.4f}", f"{coverage:.3f}", *(f"{half:.4f}" for half in halves))
    return what, *numbers, f"{seconds:.1f}"


if __name__ == "__main__":
    main(sys.argv[1:])
