"""Ask of phantoms whose camera and tissue move or do not what the check of the motion says: a confusion table.

`python benchmarks/motion.py` writes `benchmarks/results/motion.md`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as utils does, before PyTorch is loaded

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import setting
from benchmarks.ablation import spread
from stereo_prior import matches as matches_stage
from stereo_prior import scene as scene_stage
from stereo_prior.matcher import MatchOptions
from utils.errors import InputError
from utils.phantom import PhantomOptions, ensure_phantom
from utils.phantom_rig import make_rig
from utils.scene import Scene
from utils.scene_motion import SceneMotion, measure_motion

BREATHS_MM = (0.0, 1.0, 2.0, 4.0)
TRUTHS = ("moves, stands", "stands, stands", "stands, moves", "moves, moves")
SAID = (*TRUTHS, "stands, unknown", "unknown, unknown")
HEAD = ("camera", "breath, mm", "right", "other verdicts", "points that stand", "travel", "tissue off", "CPU s")
NOTES = (
    "A phantom breathes by so many mm on a view of 90 mm (the verged rig's organ is 2.2 times as large, and so is "
    "its breath): about half of the tissue is lifted by up to that, the rest stays. A verdict is right where both "
    "camera and tissue are. `points that stand`: share in the image, median over pairs of frames; `travel`: of "
    "the camera, in shares of its distance from the tissue, 90th percentile; `tissue off`: share of points, 80th "
    "percentile; mean ± standard deviation over the seeds. CPU seconds are those of all cores, features and pairs "
    "both. One eye alone sees of the tissue's motion only what leaves the epipolar lines."
)


@dataclass(frozen=True)
class Case:
    """One phantom: rig and seed, whether its camera stands, and by how many mm of a 90 mm view it breathes."""

    rig: str
    seed: int
    size: tuple[int, int, int]
    still: bool
    breath_mm: float

    @property
    def name(self) -> str:
        """Return what its folders are called."""
        size = "x".join(str(number) for number in self.size)
        return f"{self.rig}{self.seed}_{size}_{'stands' if self.still else 'moves'}_{self.breath_mm:g}"

    @property
    def truth(self) -> str:
        """Return the right verdict: camera, tissue."""
        return f"{'stands' if self.still else 'moves'}, {'moves' if self.breath_mm else 'stands'}"


@dataclass(frozen=True)
class Answer:
    """What the check said of a case, and how much work it was."""

    case: Case
    motion: SceneMotion
    seconds: float

    @property
    def verdict(self) -> str:
        """Return camera and tissue as they were judged."""
        return f"{self.motion.camera}, {self.motion.tissue}"


def main(argv: Sequence[str]) -> int:
    """Make the phantoms, measure them with two eyes and with one, and write the tables; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rigs", nargs="+", default=["parallel", "verged"], choices=("parallel", "verged"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[2, 3, 4], help="constants were chosen on 0 and 1")
    parser.add_argument("--breaths", nargs="+", type=float, default=BREATHS_MM, help="mm on a view of 90 mm")
    setting.add_example_flags(parser)
    given = parser.parse_args(argv)
    lines = ["# Motion of camera and tissue", "", f"- `{setting.command_line('motion.py', argv)}`"]
    lines += [f"- {setting.machine()}", f"- {NOTES}", ""]
    size = (given.frames, given.width, given.height)
    given.out.mkdir(parents=True, exist_ok=True)
    table = given.out / "motion.md"
    answers: dict[int, list[Answer]] = {2: [], 1: []}
    try:
        for rig in given.rigs:
            for still, breath, seed in product((False, True), given.breaths, given.seeds):
                case = Case(rig, seed, size, still, breath)
                scene, matches = prepare(case)
                for eyes, stereo in ((2, matches), (1, None)):
                    began = time.process_time()
                    motion = measure_motion(scene, stereo)
                    answers[eyes].append(Answer(case, motion, time.process_time() - began))
            table.write_text("\n".join([*lines, *tables(answers)]), encoding="utf-8")
    except InputError as error:
        sys.stderr.write(f"\nerror: {error}\n")
        return 2
    sys.stdout.write(table.read_text(encoding="utf-8"))
    return 0


def tables(answers: Mapping[int, Sequence[Answer]]) -> list[str]:
    """Return the confusion table of all phantoms and the figures of each rig, for two eyes and for one."""
    lines = []
    for eyes, words in ((2, "Two eyes"), (1, "One eye")):
        lines += [f"## {words}", "", *confusion(answers[eyes]), ""]
        for rig in dict.fromkeys(one.case.rig for one in answers[eyes]):
            mine = [one for one in answers[eyes] if one.case.rig == rig]
            frames, width, height = mine[0].case.size
            title = f"### {words}, {rig} rig, {frames} frames of {width}×{height} px"
            lines += [title, "", *by_case(mine, eyes), ""]
    return lines


def prepare(case: Case) -> tuple[Scene, Path]:
    """Make a phantom, its stage `scene` and its matches where they are not there yet."""
    data = setting.ROOT / "data" / "benchmarks" / "motion" / case.name
    breath_mm = case.breath_mm * make_rig(case.rig, *case.size[1:]).organ_scale
    ensure_phantom(data, PhantomOptions(case.rig, case.seed, *case.size, case.still, breath_mm))
    root = setting.LOGS / "motion" / case.name
    scene, matches = root / "scene", root / "matches"
    if not (scene / "frames.json").exists():
        scene.mkdir(parents=True, exist_ok=True)
        scene_stage.run(scene_stage.SceneOptions(datadir=str(data)), out=scene)
    if not (matches / "finished").exists():
        matches.mkdir(parents=True, exist_ok=True)
        matches_stage.run(MatchOptions(viz=False), out=matches, scene=scene)
        (matches / "finished").touch()
    return Scene.load(scene), matches


def confusion(answers: Sequence[Answer]) -> list[str]:
    """Return the table of what is against what was said; phantoms by their truth, camera first, tissue second."""
    rows: list[Sequence[str]] = [("truth: camera, tissue", *(f"said: {name}" for name in SAID))]
    for truth in TRUTHS:
        said = Counter(one.verdict for one in answers if one.case.truth == truth)
        rows.append((truth, *(str(said[name]) for name in SAID)))
    return setting.markdown_rows(rows)


def by_case(answers: Sequence[Answer], eyes: int) -> list[str]:
    """Return the table of one rig: a row a kind of phantom, over the seeds."""
    travel = "travel" if eyes == 2 else "parallax_px"
    rows: list[Sequence[str]] = [
        tuple("parallax, px" if head == "travel" and eyes == 1 else head for head in HEAD)
    ]
    for still, breath in sorted({(one.case.still, one.case.breath_mm) for one in answers}):
        mine = [one for one in answers if (one.case.still, one.case.breath_mm) == (still, breath)]
        wrong = Counter(one.verdict for one in mine if one.verdict != one.case.truth)
        figures = [
            spread([one.motion.figures.get(key, float("nan")) for one in mine], ".3f")
            for key in ("still_share", travel, "tissue_share")
        ]
        others = "; ".join(f"{name}: {count}" for name, count in wrong.items())
        right = f"{len(mine) - wrong.total()} of {len(mine)}"
        seconds = f"{sum(one.seconds for one in mine) / len(mine):.1f}"
        rows.append(("stands" if still else "moves", f"{breath:g}", right, others or "–", *figures, seconds))
    return setting.markdown_rows(rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
