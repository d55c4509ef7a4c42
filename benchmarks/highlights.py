"""Measure the highlight detector, and the rule grey > 240, against the phantom's truth over exposures.

`python benchmarks/highlights.py` writes `highlights.md` to `benchmarks/results/`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as utils does, before PyTorch is loaded

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import setting
from utils.highlights import HALO, detect_highlights
from utils.parallel import each
from utils.phantom import JPEG_QUALITY
from utils.phantom_render import Eye, render
from utils.phantom_rig import make_exposure, make_path, make_rig
from utils.phantom_surface import Organ, make_organ
from utils.types import BoolArray, FloatArray

GREY_LIMIT = 240
STRONG = (0.1, 0.3)  # of full scale, added by the lamp's reflection
SCORES = ("precision", "precision, halo", "recall", *(f"recall where > {part}" for part in STRONG))
Detector = Callable[[NDArray[np.uint8], BoolArray], BoolArray]
NOTES = (
    "Tissue of both eyes. Frames are rendered anew with their light multiplied by the factor before the sensor "
    "clips it, and stored as JPEG. Truth: pixels to which reflected lamp light adds more than 3 % of full scale "
    "on the display. *precision, halo*: pixels no farther than the halo's reach from the truth count as right too "
    f"({HALO:.0%} of the longer side). *recall where > x*: of the pixels to which the reflection adds more than x "
    "of full scale. Pixels are pooled over the frames of a seed; mean ± standard deviation over seeds."
)


def grey_rule(image: NDArray[np.uint8], tissue: BoolArray) -> BoolArray:
    """Return where the grey value exceeds 240, as the reference has it."""
    return np.asarray(tissue & (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) > GREY_LIMIT))


DETECTORS: dict[str, Detector] = {"ours": detect_highlights, f"grey > {GREY_LIMIT}": grey_rule}


@dataclass(frozen=True, eq=False)
class Shot:
    """One image (h, w, 3), its tissue and true highlights (h, w), and how much light they add, of full scale."""

    image: NDArray[np.uint8]
    tissue: BoolArray
    highlight: BoolArray
    added: FloatArray


def main(argv: Sequence[str]) -> int:
    """Score both detectors on every rig and exposure, and write the table; return the exit status."""
    given = _parser().parse_args(argv)
    cases = [(rig, factor) for rig in given.rigs for factor in given.factors]
    rows = [["rig", "light", "share of tissue", "detector", *SCORES]]
    for rig, factor in tqdm(cases, desc="highlights", unit="case"):
        rows += table_rows(rig, factor, [shots(rig, seed, factor, given) for seed in given.seeds])
    command = setting.command_line("highlights.py", argv)
    lines = ["# Highlights", "", f"- `{command}`", f"- {setting.machine()}", f"- {NOTES}", ""]
    given.out.mkdir(parents=True, exist_ok=True)
    text = "\n".join([*lines, *setting.markdown_rows(rows), ""])
    (given.out / "highlights.md").write_text(text, encoding="utf-8")
    sys.stdout.write("\n" + text)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "", allow_abbrev=False)
    parser.add_argument("--rigs", nargs="+", default=["parallel", "verged"], choices=("parallel", "verged"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="default 0 1 2")
    parser.add_argument("--factors", nargs="+", type=float, default=[0.7, 0.85, 1.0, 1.15, 1.3], help="of light")
    parser.add_argument("--every", type=int, default=8, help="take one frame in so many; default 8")
    setting.add_example_flags(parser)
    return parser


def shots(rig_name: str, seed: int, factor: float, size: argparse.Namespace) -> list[Shot]:
    """Render some frames of a phantom with more or less light than it has, both eyes."""
    rig = make_rig(rig_name, size.width, size.height)
    organ = make_organ(np.random.default_rng([seed, 1]), rig.organ_scale)
    dry = replace(organ, skin=organ.skin * np.array([1, 1, 1, 0], np.float32))
    rng = np.random.default_rng([seed, 2])
    world_from_left = make_path(rig, size.frames, rng)
    exposure = factor * make_exposure(size.frames, rng)

    def view(frame: int, side: int) -> Shot:
        eye = Eye(
            camera=(rig.camera_left, rig.camera_right)[side],
            world_from_camera=world_from_left[frame] @ (np.eye(4), np.linalg.inv(rig.right_from_left))[side],
            lamp_world=world_from_left[frame, :3, :3] @ rig.lamp_left + world_from_left[frame, :3, 3],
            width=size.width,
            height=size.height,
            distance_mm=rig.distance_mm,
        )
        return shoot(organ, dry, eye, float(exposure[frame]), [seed, 3, frame, side])

    taken = product(range(0, size.frames, size.every), (0, 1))
    return each(taken, f"{rig_name} {seed}, light {factor:g}", lambda one: view(*one))


def shoot(organ: Organ, dry: Organ, eye: Eye, exposure: float, noise_seed: Sequence[int]) -> Shot:
    """Render a view, and once more without its wet film: the noise is the same, the difference is reflection."""
    wet, plain = (render(one, eye, exposure, np.random.default_rng(noise_seed)) for one in (organ, dry))
    added = (wet.rgb.astype(float) - plain.rgb).max(axis=-1) / 255
    _, stored = cv2.imencode(".jpg", wet.rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    image = np.array(cv2.imdecode(stored, cv2.IMREAD_COLOR_RGB), np.uint8)
    return Shot(image, wet.tissue, wet.highlight, added)


def table_rows(rig: str, factor: float, seeds: Sequence[Sequence[Shot]]) -> list[list[str]]:
    """Return one row a detector."""
    share = np.mean([one.highlight.sum() / one.tissue.sum() for taken in seeds for one in taken])
    rows = []
    for name, detect in DETECTORS.items():
        scores = np.array([score(taken, detect) for taken in seeds])
        spread = scores.std(axis=0, ddof=1) if len(scores) > 1 else np.zeros(len(SCORES))
        cells = [f"{mean:.3f} ± {off:.3f}" for mean, off in zip(scores.mean(axis=0), spread, strict=True)]
        rows.append([rig, f"{factor:g}", f"{share:.1%}", name, *cells])
    return rows


def score(taken: Sequence[Shot], detect: Detector) -> list[float]:
    """Return the scores of `SCORES` on all pixels of some images; NaN where nothing was found."""
    found = [detect(one.image, one.tissue) for one in taken]
    number = sum(int(one.sum()) for one in found)

    def share(parts: list[BoolArray], whole: float) -> float:
        return sum(int(part.sum()) for part in parts) / whole if whole else float("nan")

    hits = [part & one.highlight for part, one in zip(found, taken, strict=True)]
    near_hits = [part & with_halo(one.highlight) for part, one in zip(found, taken, strict=True)]
    recalls = []
    for least in (0.0, *STRONG):
        wanted = [one.highlight & (one.added > least) if least else one.highlight for one in taken]
        met = [part & want for part, want in zip(found, wanted, strict=True)]
        recalls.append(share(met, sum(int(want.sum()) for want in wanted)))
    return [share(hits, number), share(near_hits, number), *recalls]


def with_halo(highlight: BoolArray) -> BoolArray:
    """Return highlights grown by the reach of a halo."""
    reach_px = max(1, round(HALO * max(highlight.shape)))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach_px + 1,) * 2)
    return np.asarray(cv2.dilate(highlight.astype(np.uint8), disc) > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
