"""What the small monocular network learns from a first field: its depth and the prior's, before and after.

`python benchmarks/novel_views.py` trains a first field, renders it at the eyes and half-way between them, trains
the network again with `--ns_path` and `--ns_loss_weight`, and writes `novel_views.md` to `benchmarks/results/`.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as utils does, before PyTorch is loaded

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import setting
from benchmarks.setting import Example
from utils.artifacts import load_maps
from utils.errors import InputError
from utils.images import find_map, read_map
from utils.phantom import DEPTH_PNG_MM, ensure_phantom
from utils.relative_maps import load_relative
from utils.scene import Scene
from utils.types import FloatArray, Side

SHARED = ("scene", "matches", "poses", "stereo")
HEAD = ("eyes", "rig", "seed", "network learns from", "network", "prior", "prior in highlights", "coverage")
NOTES = (
    "Mean abs_rel on tissue over all frames: in `network` of the network's depth alone, after its fit to the "
    "sparse points, in `prior` of the fused prior of the next field. `points`: the sparse points and matches "
    "of training images. `points, field`: these and the depth of a first field, at the eyes and, with both "
    "eyes, half-way between them; it was trained with the prior of the line above. One eye has no unit of "
    "length: there all maps of a line are brought to mm by one factor, the median over all pixels."
)


def main(argv: Sequence[str]) -> int:
    """Measure before and after on every phantom and write the table after each; return the exit status."""
    given = _parser().parse_args(argv)
    given.out.mkdir(parents=True, exist_ok=True)
    rows: list[Sequence[str]] = []
    try:
        for eyes in given.eyes:
            for rig in given.rig:
                for seed in given.seeds:
                    example = Example(rig, seed, given.frames, given.width, given.height)
                    rows += measure(example, eyes, given.iters, given.weight)
                    text = _write(given.out, setting.command_line("novel_views.py", argv), rows)
    except InputError as error:
        sys.stderr.write(f"\nerror: {error}\n")
        return 2
    sys.stdout.write("\n" + text)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "", allow_abbrev=False)
    parser.add_argument("--eyes", nargs="+", default=["left"], choices=("left", "both"), help="default left")
    parser.add_argument("--rig", nargs="+", default=["parallel"], choices=("parallel", "verged"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="default 0 1 2")
    parser.add_argument("--iters", type=int, help="steps of the first field; default: the product's own")
    parser.add_argument("--weight", type=float, default=1.0, help="--ns_loss_weight; default 1")
    setting.add_example_flags(parser)
    return parser


def measure(example: Example, eyes: str, iterations: int | None, weight: float) -> list[Sequence[str]]:
    """Run the stages once up to the renders, once more up to the prior; return a row for each prior."""
    data = Path(setting.read_options(example.flags(setting.LOGS))["scene"].datadir)
    ensure_phantom(data, setting.read_options(example.flags(setting.LOGS))["phantom"])
    if eyes == "left":
        data = _left_only(data)
    roots = [setting.LOGS / f"{example.name}_{eyes}_novel{number}" for number in (1, 2)]

    def run(root: Path, until: str, words: Sequence[str]) -> None:
        flags = [*example.flags(root), "--train_binocular", str(eyes == "both"), "--monocular", "small"]
        flags += ["--phantom", "none", "--datadir", str(data), *words]
        setting.run_product(flags, until=until)

    for root in roots:
        setting.forget_where_code_changed(root, setting.ALL_CODE)
    run(roots[0], "render", [*setting.iterations_flags(iterations), *(["--render_middle"] * (eyes == "both"))])
    setting.share_upstream(roots[0], roots[1], SHARED)
    run(roots[1], "prior", ["--ns_path", str(roots[0]), "--ns_loss_weight", f"{weight:g}"])
    return [
        (eyes, example.rig, str(example.seed), source, *_scores(data, root))
        for source, root in zip(("points", "points, field"), roots, strict=True)
    ]


def _left_only(data: Path) -> Path:
    """Return a copy of a phantom without its right eye, in images and calibration."""
    folder = data.with_name(f"{data.name}_left")
    record = "phantom.json"
    if folder.exists() and (folder / record).read_text() == (data / record).read_text():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(data, partial, ignore=shutil.ignore_patterns("r", "mask_r", "highlight_r", "calib.yaml"))
    calibration = (data / "calib.yaml").read_text()
    kept = calibration[: calibration.index("M2:")] + calibration[calibration.index("image_size:") :]
    (partial / "calib.yaml").write_text(kept)
    partial.rename(folder)
    return folder


def _scores(data: Path, root: Path) -> tuple[str, ...]:
    """Return the cells of a row: abs_rel of the network and of the prior, in highlights, coverage of the prior."""
    scene = Scene.load(root / "scene")
    fits = _fits(root)

    def network(side: Side, name: str) -> FloatArray:
        relative = load_relative(root / "monocular", side, name)
        scale, shift = fits.get((side, name), (np.nan, np.nan))
        inverse = np.zeros(1) if relative is None else scale * relative + shift
        return np.where(inverse > 0, 1.0 / np.where(inverse > 0, inverse, 1.0), np.nan)

    def prior(side: Side, name: str) -> FloatArray:
        return np.asarray(load_maps(root / "prior", side, name)["depth_mm"])

    alone, fused = (_score(data, scene, depth_of) for depth_of in (network, prior))
    return f"{alone[0]:.4f}", f"{fused[0]:.4f}", f"{fused[1]:.4f}", f"{fused[2]:.1%}"


def _fits(root: Path) -> dict[tuple[str, str], tuple[float, float]]:
    """Return scale and shift of each view's map, as the prior used them."""
    with open(root / "prior" / "alignment.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["source"] == "monocular"]
    return {(row["side"], row["frame"]): (float(row["scale"]), float(row["shift"])) for row in rows}


def _score(data: Path, scene: Scene, depth_of: Callable[[Side, str], FloatArray]) -> FloatArray:
    """Return abs_rel on tissue, the same inside highlights, and coverage: means over all views."""
    views = []
    for side in scene.sides:
        for name in scene.names:
            path = find_map(data / side[0] / "depth", name)
            if path is None:
                raise InputError(
                    f"{data} has no truth of {name}", found="no file", expected="a map", do="delete it"
                )
            truth_mm, (tissue, highlight) = read_map(path) * DEPTH_PNG_MM, scene.masks(side, name)
            region = tissue & (truth_mm > 0)
            depth = np.broadcast_to(depth_of(side, name), truth_mm.shape)
            views.append((depth[region] / truth_mm[region], highlight[region]))
    factor = 1.0 if scene.rig.stereo else float(np.nanmedian(np.concatenate([ratio for ratio, _ in views])))
    rows = []
    for ratio, shining in views:
        off = np.abs(ratio / factor - 1.0)
        rows.append((np.nanmean(off), np.nanmean(off[shining]), np.isfinite(off).mean()))
    return np.asarray(np.nanmean(np.array(rows), axis=0))


def _write(out: Path, command: str, rows: list[Sequence[str]]) -> str:
    table = setting.markdown_rows([HEAD, *rows])
    text = "\n".join(
        ["# Learning from a field", "", f"- `{command}`", f"- {setting.machine()}", "", NOTES, "", *table, ""]
    )
    (out / "novel_views.md").write_text(text)
    return text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
