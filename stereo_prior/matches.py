"""Stage `matches`: pixel pairs between the two eyes of every frame, and what they say of the calibration."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from stereo_prior.densify import densify, draw_dense
from stereo_prior.learned_matchers import LEARNED
from stereo_prior.match_checks import Check, check_calibration
from stereo_prior.matcher import Image, Match, Matcher, Matches
from stereo_prior.matcher import MatchOptions as MatchOptions
from stereo_prior.pair import load_eye
from stereo_prior.rectification import Rectification
from utils.artifacts import write_json, write_npz
from utils.errors import InputError, NotApplicable
from utils.images import write_rgb
from utils.scene import Scene
from utils.sift import detect, mutual_matches, usable_pixels
from utils.stages import Stage
from utils.types import BoolArray, Side

log = logging.getLogger("specula")

FEWEST_PER_FRAME = 8
_FEATURES = 2500
_MARGIN = 0.008  # of the image's width: descriptors see this far into what is masked out
_FRAMES_PER_LINE = 12


def match_sift(left: tuple[Image, BoolArray], right: tuple[Image, BoolArray]) -> Matches:
    """Match two images (h, w, 3), each with its usable pixels (h, w), by SIFT, mutual and at ratio 0.8."""
    pixels_left, descriptors_left = detect(*left, max_features=_FEATURES)
    pixels_right, descriptors_right = detect(*right, max_features=_FEATURES)
    chosen_left, chosen_right, score = mutual_matches(descriptors_left, descriptors_right)
    return Matches(pixels_left[chosen_left], pixels_right[chosen_right], score)


MATCHERS: dict[str, Matcher] = {"sift": Matcher(lambda _: match_sift), **LEARNED}


def files(options: MatchOptions) -> list[Path]:
    """Return the files of weights that the matcher reads."""
    return MATCHERS[options.matcher].files(options)


def check(options: MatchOptions) -> None:
    """Raise InputError for a size that cannot be matched at, or for what the matcher lacks."""
    if len(options.resize) != 2 or min(options.resize) < 64:
        raise InputError(
            f"--resize {' '.join(f'{value:g}' for value in options.resize)}",
            found=f"{len(options.resize)} numbers",
            expected="width and height, 64 px or more",
            do="for example --resize 640 480",
        )
    MATCHERS[options.matcher].check(options)


def run(options: MatchOptions, *, out: Path, scene: Path) -> str:
    """Match the eyes of every frame; write pixel pairs, pictures and the calibration's report.

    Raises:
        NotApplicable: the scene has one eye.
        InputError: the matches contradict the calibration.
    """
    check(options)
    loaded = Scene.load(scene)
    if "right" not in loaded.sides or not loaded.rig.stereo:
        raise NotApplicable("the scene has left images only: there is no second eye to match")
    rectification = Rectification.of(loaded.rig)
    match = MATCHERS[options.matcher].prepare(options)
    raw = {}
    for name in tqdm(loaded.names, desc="matches", unit="frame", disable=None):
        raw[name] = _match_frame(options, match, loaded, rectification, name)
    _judge(options, loaded, list(raw.values()), out)
    counts: dict[str, int] = {}
    dense_counts: dict[str, int] = {}
    for name, found in tqdm(raw.items(), desc="matches, kept", unit="frame", disable=None):
        kept = found.select(_on_equal_rows(options, rectification, found))
        counts[name] = len(kept.score)
        dense = _dense(options, loaded, rectification, name, kept)
        if dense is not None:
            dense_counts[name] = len(dense.score)
        _write(options, loaded, name, out, kept, dense)
    return _summary(counts, dense_counts)


def _match_frame(
    options: MatchOptions, match: Match, scene: Scene, rectification: Rectification, name: str
) -> Matches:
    """Match one frame in rectified images of the size asked for; pixels are those of the scene's images."""
    width, height = int(options.resize[0]), int(options.resize[1])
    inputs = {side: _rectified(scene, rectification, side, name, (width, height)) for side in scene.sides}
    found = match(inputs["left"], inputs["right"])
    if MATCHERS[options.matcher].has_confidence:
        found = found.select(found.score >= options.match_min_confidence)
    scale = np.array([width / rectification.left.width, height / rectification.left.height])
    pixels_left = rectification.unrectify_pixels((found.pixels_left + 0.5) / scale - 0.5, "left")
    pixels_right = rectification.unrectify_pixels((found.pixels_right + 0.5) / scale - 0.5, "right")
    return Matches(pixels_left, pixels_right, found.score)


def _rectified(
    scene: Scene, rectification: Rectification, side: Side, name: str, size: tuple[int, int]
) -> tuple[Image, BoolArray]:
    """Return a rectified, resized image and where features may lie in it."""
    image = rectification.rectify(scene.image(side, name), side)
    tissue, highlight = scene.masks(side, name)
    margin_px = max(1, round(_MARGIN * tissue.shape[1]))
    usable = rectification.rectify(usable_pixels(tissue, highlight, margin_px), side)
    usable = cv2.resize(usable.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT) > 0
    how = cv2.INTER_CUBIC if size[0] >= image.shape[1] else cv2.INTER_AREA
    return np.asarray(cv2.resize(image, size, interpolation=how), np.uint8), usable


def _on_equal_rows(options: MatchOptions, rectification: Rectification, found: Matches) -> BoolArray:
    """Return (m,) bool: row difference after rectification within --match_max_dy of the --resize size."""
    rows_left = rectification.rectify_pixels(found.pixels_left, "left")[:, 1]
    rows_right = rectification.rectify_pixels(found.pixels_right, "right")[:, 1]
    largest_px = options.match_max_dy * rectification.left.height / int(options.resize[1])
    return np.asarray(np.abs(rows_left - rows_right) <= largest_px)


def _judge(options: MatchOptions, scene: Scene, found: list[Matches], out: Path) -> None:
    """Write the calibration's report from all raw matches, warn, and refuse what is contradicted."""
    pooled_left = np.concatenate([matches.pixels_left for matches in found])
    pooled_right = np.concatenate([matches.pixels_right for matches in found])
    checks = check_calibration(scene.rig, pooled_left, pooled_right)
    write_json(out / "checks.json", [check.to_json() for check in checks])
    refused: list[Check] = []
    for check in checks:
        line = f"{check.check}: {check.found}; expected {check.expected}"
        if check.verdict == "good":
            log.info("matches: [ok] %s", line)
        elif check.verdict == "refuse" and not options.allow_bad_calibration and not refused:
            refused.append(check)  # it is said once, when it stops the run
        else:
            log.warning("matches: %s. %s", line, check.do)
    for check in refused:
        raise check.to_error()


def _dense(
    options: MatchOptions, scene: Scene, rectification: Rectification, name: str, kept: Matches
) -> Matches | None:
    """Return the dense matches of one frame in the scene's images; None where none are asked for."""
    if options.densify == "none":
        return None
    seeds = Matches(
        rectification.rectify_pixels(kept.pixels_left, "left"),
        rectification.rectify_pixels(kept.pixels_right, "right"),
        kept.score,
    )
    left, right = (load_eye(scene, rectification, side, name) for side in ("left", "right"))
    found = densify(options.densify, left, right, seeds)
    return Matches(
        rectification.unrectify_pixels(found.pixels_left, "left"),
        rectification.unrectify_pixels(found.pixels_right, "right"),
        found.score,
    )


def _write(
    options: MatchOptions, scene: Scene, name: str, out: Path, kept: Matches, dense: Matches | None
) -> None:
    """Write one frame's matches and their pictures."""
    arrays = {"pixels_left": kept.pixels_left, "pixels_right": kept.pixels_right, "score": kept.score}
    if dense is not None:
        arrays |= {"dense_left": dense.pixels_left, "dense_right": dense.pixels_right, "dense_score": dense.score}
    write_npz(out / f"{name}.npz", **arrays)
    if options.viz:
        left = scene.image("left", name)
        write_rgb(out / f"{name}.png", draw_matches(left, scene.image("right", name), kept))
        if dense is not None:
            write_rgb(out / "dense" / f"{name}.png", draw_dense(left, dense))


def draw_matches(left: Image, right: Image, matches: Matches, *, at_most: int = 200) -> Image:
    """Return both images beside each other with lines between the best matches, coloured by score."""
    height = max(left.shape[0], right.shape[0])
    canvas = np.zeros((height, left.shape[1] + right.shape[1], 3), np.uint8)
    canvas[: left.shape[0], : left.shape[1]] = left
    canvas[: right.shape[0], left.shape[1] :] = right
    for index in np.argsort(-matches.score)[:at_most]:
        start = np.rint(matches.pixels_left[index]).astype(int)
        end = np.rint(matches.pixels_right[index]).astype(int) + np.array([left.shape[1], 0])
        good = round(255 * min(1.0, 2 * float(matches.score[index])))
        cv2.line(canvas, start.tolist(), end.tolist(), (255 - good, good, 64), 1, cv2.LINE_AA)
    return canvas


def _summary(counts: dict[str, int], dense_counts: dict[str, int]) -> str:
    """Return the stage's line, log the counts of all frames, and warn about frames with too few matches."""
    words = [f"{name}: {count}" for name, count in counts.items()]
    if dense_counts:
        words = [f"{word} ({dense_counts[name]} dense)" for word, name in zip(words, counts, strict=True)]
    for start in range(0, len(words), _FRAMES_PER_LINE):
        log.info("matches of frame %s", ", ".join(words[start : start + _FRAMES_PER_LINE]))
    few = [name for name, count in counts.items() if count < FEWEST_PER_FRAME]
    if few:
        shown = ", ".join(few[:10]) + (", ..." if len(few) > 10 else "")
        log.warning("matches: fewer than %d matches in %d frames: %s", FEWEST_PER_FRAME, len(few), shown)
    values = np.array(list(counts.values()))
    line = f"{len(counts)} frames, {int(np.median(values))} matches a pair in the median, {values.min()} least"
    if dense_counts:
        line += f"; {int(np.median(list(dense_counts.values())))} dense ones"
    return line + (f"; {len(few)} frames below {FEWEST_PER_FRAME}" if few else "")


STAGE = Stage("matches", run, MatchOptions, reads=("scene",), files=files, check=check)
