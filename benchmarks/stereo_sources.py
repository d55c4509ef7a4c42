"""Measure stereo sources, alone and fused, against the truth of phantoms and of Middlebury's Motorcycle.

`python benchmarks/stereo_sources.py` writes `stereo_sources.md` to `benchmarks/results/`. Sources with weights of
their own need their flag: `--sources sgbm pam anynet --anynet_weights FILE`. Flags of `run.py` that are not listed
by `--help` here reach every source.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as utils does, before PyTorch is loaded

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import setting
from benchmarks.setting import Example
from stereo_prior.rectification import Rectification
from utils.artifacts import load_maps
from utils.errors import InputError
from utils.images import find_map, read_map, read_pfm
from utils.phantom import DEPTH_PNG_MM
from utils.scene import Scene
from utils.stages import read_stamp
from utils.training import CHECKPOINT
from utils.types import BoolArray, FloatArray, Side

TRAINED = ("pam", "sttr")  # on the scene: one pair is nothing to train on
HEAD = ("rig", "seed", "from", "map", "abs_rel", "in highlights", "coverage", "EPE, px", "bad 1 px", "seconds")
MOTORCYCLE_HEAD = ("from", "EPE, px", "bad 3 px", "coverage", "seconds")
NOTES = (
    "Tissue, both eyes, all frames, mean over views; depth raw, never aligned to the truth. `stereo` is the "
    "source's own map, `prior` what is fused from it over frames. EPE and bad pixels are those of the disparity "
    "that the depth stands for in the rectified pair. Seconds of the stages, training included, but for several "
    "sources together: they take the weights that each learned alone."
)


@dataclass(frozen=True)
class Score:
    """Errors of one set of maps; NaN where nothing was known."""

    abs_rel: float
    in_highlights: float
    coverage: float
    epe_px: float
    bad_1px: float


def main(argv: Sequence[str]) -> int:
    """Run every source on every phantom and write the table after each; return the exit status."""
    given, extra = _parser().parse_known_args(argv)
    examples = [
        Example(rig, seed, given.frames, given.width, given.height) for rig in given.rig for seed in given.seeds
    ]
    given.out.mkdir(parents=True, exist_ok=True)
    rows: list[Sequence[str]] = []
    motorcycle: list[Sequence[str]] = []
    choices = [*given.sources, *([",".join(given.sources)] if len(given.sources) > 1 else [])]
    try:
        if given.motorcycle:
            ready = [source for source in given.sources if source not in TRAINED]
            motorcycle = [measure_motorcycle(given.motorcycle, source, extra) for source in ready]
        for example in examples:
            measured = set[str]()
            for source in choices:
                rows += measure(example, source, extra, measured)
                measured.add(source)
                _write(given.out, setting.command_line("stereo_sources.py", argv), rows, motorcycle)
    except InputError as error:
        sys.stderr.write(f"\nerror: {error}\n")
        return 2
    sys.stdout.write("\n" + _write(given.out, setting.command_line("stereo_sources.py", argv), rows, motorcycle))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "", allow_abbrev=False)
    parser.add_argument("--sources", nargs="+", default=["sgbm", "pam"], help="default sgbm pam")
    parser.add_argument("--rig", nargs="+", default=["parallel", "verged"], choices=("parallel", "verged"))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2], help="default 0 1 2")
    parser.add_argument(
        "--motorcycle", type=Path, help="Middlebury 2014 Motorcycle in the layout of data_layout.md"
    )
    setting.add_example_flags(parser)
    return parser


def measure(example: Example, sources: str, extra: Sequence[str], measured: set[str]) -> list[Sequence[str]]:
    """Run the stages from `scene` to `prior` with some sources; return a row for their map, one for the prior."""
    base = setting.LOGS / f"{example.name}_sources"
    setting.forget_where_code_changed(base, setting.UPSTREAM_CODE)
    setting.run_product(example.flags(base), until="poses")
    experiment = setting.LOGS / f"{example.name}_{sources.replace(',', '_')}"
    setting.forget_where_code_changed(experiment, setting.UPSTREAM_CODE)
    setting.share_upstream(base, experiment, setting.BEFORE_PRIORS)
    trained = _trained_before(example, sources, measured)
    root = setting.run_product([*example.flags(experiment), "--stereo", sources, *extra, *trained], until="prior")
    data = Path(setting.read_options(example.flags(experiment))["scene"].datadir)
    rows: list[Sequence[str]] = []
    for stage, folder in (("stereo", root / "stereo" / sources), ("prior", root / "prior")):
        if not folder.is_dir():
            continue  # several sources have a map each, and no map together
        found = score(data, root / "scene", folder)
        numbers = (
            f"{found.abs_rel:.4f}",
            f"{found.in_highlights:.4f}",
            f"{found.coverage:.1%}",
            f"{found.epe_px:.2f}",
            f"{found.bad_1px:.1%}",
            f"{read_stamp(root / stage)['seconds']:.0f}",
        )
        rows.append((example.rig, str(example.seed), sources, stage, *numbers))
    return rows


def _trained_before(example: Example, sources: str, measured: set[str]) -> list[str]:
    """Return the flags that give several sources the weights that each of them learned in this very run."""
    trained = [name for name in sources.split(",") if name in TRAINED]
    if not trained or sources in trained or not measured.issuperset(trained):
        return []
    weights = {name: setting.LOGS / f"{example.name}_{name}" / "stereo" / name / CHECKPOINT for name in trained}
    return [
        "--depth_N_iters",
        "0",
        *(word for name in trained for word in (f"--{name}_weights", str(weights[name]))),
    ]


def score(data: Path, scene: Path, maps: Path) -> Score:
    """Compare depth maps with the phantom's truth on tissue, in both eyes."""
    loaded = Scene.load(scene)
    rectification = Rectification.of(loaded.rig)
    views = [
        _score_view(data, loaded, rectification, maps, side, name)
        for side in loaded.sides
        for name in loaded.names
    ]
    return Score(*(float(value) for value in np.nanmean(np.array(views), axis=0)))


def _score_view(
    data: Path, scene: Scene, rectification: Rectification, maps: Path, side: Side, name: str
) -> tuple[float, ...]:
    path = find_map(data / side[0] / "depth", name)
    if path is None:
        raise InputError(
            f"{data} has no truth for {side} {name}", found="no file", expected="a depth map", do="make it again"
        )
    truth_mm = read_map(path) * DEPTH_PNG_MM
    depth_mm, (tissue, highlight) = load_maps(maps, side, name)["depth_mm"], scene.masks(side, name)
    region = tissue & (truth_mm > 0)
    valid = region & np.isfinite(depth_mm)
    relative = np.abs(depth_mm / np.where(valid, truth_mm, np.nan) - 1.0)
    off_px = _disparity_error_px(rectification, side, depth_mm, np.where(valid, truth_mm, np.nan))
    return (
        _mean(relative, valid),
        _mean(relative, valid & highlight),
        valid.sum() / max(1, region.sum()),
        _mean(off_px, valid),
        _mean((off_px > 1).astype(float), valid),
    )


def _disparity_error_px(
    rectification: Rectification, side: Side, depth_mm: FloatArray, truth_mm: FloatArray
) -> FloatArray:
    """Return (h, w): how far off the disparity is that a depth stands for."""
    scale = rectification.depth_scale(side)
    found, true = (rectification.disparity_from_depth(values / scale) for values in (depth_mm, truth_mm))
    return np.asarray(np.abs(found - true))


def _mean(values: FloatArray, chosen: BoolArray) -> float:
    return float(values[chosen].mean()) if chosen.any() else float("nan")


def measure_motorcycle(data: Path, source: str, extra: Sequence[str]) -> Sequence[str]:
    """Match the Motorcycle pair by one source; return its row, over the pixels that both eyes see."""
    experiment = setting.LOGS / f"motorcycle_{source}"
    setting.forget_where_code_changed(experiment, setting.UPSTREAM_CODE)
    flags = ["--basedir", str(experiment.parent), "--expname", experiment.name, "--datadir", str(data)]
    root = setting.run_product([*flags, "--stereo", source, *extra], until="stereo")
    loaded = Scene.load(root / "scene")
    depth_mm = load_maps(root / "stereo" / source, "left", loaded.names[0])["depth_mm"]
    truth_px = read_pfm(data / "l" / "disparity" / "1.pfm")
    seen = (cv2.imread(str(data / "mask0nocc.png"), cv2.IMREAD_GRAYSCALE) == 255) & np.isfinite(truth_px)
    off_px = np.abs(Rectification.of(loaded.rig).disparity_from_depth(depth_mm) - truth_px)
    known = seen & np.isfinite(off_px)
    return (
        source,
        f"{_mean(off_px, known):.2f}",
        f"{_mean((off_px > 3).astype(float), known):.2%}",
        f"{known.sum() / seen.sum():.1%}",
        f"{read_stamp(root / 'stereo')['seconds']:.0f}",
    )


def _write(out: Path, command: str, rows: list[Sequence[str]], motorcycle: list[Sequence[str]]) -> str:
    """Write the tables and return them."""
    parts = [
        "# Stereo sources",
        "",
        f"- `{command}`",
        f"- {setting.machine()}",
        "",
        NOTES,
        "",
        *_table(HEAD, rows),
    ]
    if motorcycle:
        parts += ["", "Motorcycle (Middlebury 2014, quarter size), pixels that both eyes see. Sources that train"]
        parts += ["on the scene are left out: one pair is nothing to train on.", ""]
        parts += _table(MOTORCYCLE_HEAD, motorcycle)
    text = "\n".join(parts) + "\n"
    (out / "stereo_sources.md").write_text(text)
    return text


def _table(head: Sequence[str], rows: list[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
