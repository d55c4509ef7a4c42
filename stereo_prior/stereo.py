"""Stage `stereo`: metric depth, its uncertainty and its confidence from the two eyes of every frame."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from stereo_prior import anynet, files_source, pam, sttr
from stereo_prior.judgement import by_matching
from stereo_prior.pictures import beside, coloured, limits
from stereo_prior.rectification import Rectification
from stereo_prior.sgbm import match_sgbm
from stereo_prior.sgbm_wls import match_sgbm_wls
from stereo_prior.source import DepthMaps, Source, StereoOptions, Task
from utils.artifacts import save_maps
from utils.errors import InputError, NotApplicable
from utils.images import write_rgb
from utils.parallel import workers
from utils.scene import Scene
from utils.stages import Stage
from utils.types import FloatArray, Side

SOURCES: dict[str, Source] = {
    "sgbm": Source(by_matching(match_sgbm), options=()),
    "sgbm_wls": Source(by_matching(match_sgbm_wls), options=()),
    "pam": pam.SOURCE,
    "sttr": sttr.SOURCE,
    "anynet": anynet.SOURCE,
    "files": files_source.SOURCE,
}


log = logging.getLogger("specula")

# The flag without which a source is not meant: given without its source, it was forgotten.
_OWN_PATHS = {"files": "stereo_path", "pam": "pam_weights", "sttr": "sttr_weights", "anynet": "anynet_weights"}


def chosen_sources(options: StereoOptions) -> list[str]:
    """Return the names of the sources asked for. Raises InputError for an unknown one."""
    names = list(dict.fromkeys(name.strip() for name in options.stereo.split(",") if name.strip()))
    unknown = [name for name in names if name not in SOURCES]
    if unknown or not names:
        raise InputError(
            f"--stereo {options.stereo}",
            found=f"no source called {unknown[0]}" if unknown else "no source",
            expected=f"one or several of {', '.join(SOURCES)}",
            do="for example --stereo sgbm",
        )
    return names


def check(options: StereoOptions) -> None:
    """Refuse an unknown source, or one whose files are missing, before anything runs."""
    names = chosen_sources(options)
    for source, flag in _OWN_PATHS.items():
        if getattr(options, flag) and source not in names:
            log.warning("stereo: --%s is not used: --stereo %s has no %s", flag, options.stereo, source)
    for name in names:
        SOURCES[name].check(options)


def files(options: StereoOptions) -> list[Path]:
    """Return the files outside `logs/` that the chosen sources read."""
    return [path for name in chosen_sources(options) for path in SOURCES[name].files(options)]


def counted(options: StereoOptions) -> set[str]:
    """Return the names of the flags that the chosen sources depend on."""
    return {"stereo", *(name for source in chosen_sources(options) for name in SOURCES[source].options)}


def run(options: StereoOptions, *, out: Path, scene: Path, matches: Path) -> str:
    """Measure both eyes of every frame; write depth, sigma and confidence in the original pixels of each eye.

    Raises:
        InputError: an unknown source, or one whose files do not fit.
        NotApplicable: the scene has one eye.
    """
    names = chosen_sources(options)
    loaded = Scene.load(scene)
    if not loaded.rig.stereo or "right" not in loaded.sides:
        raise NotApplicable("the scene has left images only: there is no second eye to match")
    rectification = Rectification.of(loaded.rig)
    found_px = matched_disparities(loaded, rectification, matches)
    task = Task(options, loaded, rectification, matches, found_px, out)
    shares: list[tuple[float, float]] = []
    for name in names:
        (out / name).mkdir(parents=True, exist_ok=True)
        shares += _run_source(SOURCES[name], name, replace(task, work=out / name))
    share, sigma = np.nanmean(np.array(shares), axis=0)
    return (
        f"{len(loaded.names)} frames, both eyes, by {', '.join(names)}: {100 * share:.1f} % of the tissue "
        f"measured, median sigma {100 * sigma:.2f} % of the depth"
    )


def _run_source(source: Source, called: str, task: Task) -> list[tuple[float, float]]:
    """Measure all frames by one source; return for each the share of tissue measured and the median sigma."""
    measure = source.prepare(task)
    found: list[tuple[float, float]] = []

    def one(name: str) -> tuple[float, float]:
        return _write_frame(task, name, measure(name))

    with ThreadPoolExecutor(max_workers=workers() if source.threads else 1) as pool:
        work = pool.map(one, task.scene.names)
        with tqdm(work, total=len(task.scene.names), desc=f"stereo, {called}", unit="frame", disable=None) as bar:
            for share, sigma in bar:
                found.append((share, sigma))
                bar.set_postfix_str(f"{100 * share:.1f} % measured", refresh=False)
    return found


def matched_disparities(scene: Scene, rectification: Rectification, matches: Path) -> dict[str, FloatArray]:
    """Return the rectified disparities, px, of every frame's matches."""
    found: dict[str, FloatArray] = {}
    for name in scene.names:
        path = matches / f"{name}.npz"
        if not path.exists():
            found[name] = np.zeros(0)
            continue
        with np.load(path) as file:
            left = rectification.rectify_pixels(file["pixels_left"], "left")
            right = rectification.rectify_pixels(file["pixels_right"], "right")
        disparities_px = left[:, 0] - right[:, 0]
        in_front = np.isfinite(rectification.depth_from_disparity(disparities_px))
        found[name] = disparities_px[in_front]
    return found


def _write_frame(task: Task, name: str, measured: dict[Side, DepthMaps]) -> tuple[float, float]:
    """Write one frame's maps and picture; return the share of tissue measured and the median relative sigma."""
    shares, sigmas = [], []
    for side, maps in measured.items():
        tissue, _ = task.scene.masks(side, name)
        depth_mm = np.where(tissue, maps.depth_mm, np.nan).astype(np.float32)
        sigma_mm = np.where(tissue, maps.sigma_mm, np.nan).astype(np.float32)
        confidence = np.where(tissue, maps.confidence, 0).astype(np.float32)
        save_maps(task.work, side, name, depth_mm=depth_mm, sigma_mm=sigma_mm, confidence=confidence)
        known = np.isfinite(depth_mm)
        shares.append(known[tissue].mean() if tissue.any() else np.nan)
        sigmas.append(np.median((sigma_mm / depth_mm)[known]) if known.any() else np.nan)
        if side == "left":
            picture = [task.scene.image(side, name), coloured(depth_mm, *limits(depth_mm))]
            write_rgb(task.work / f"{name}.png", beside([*picture, coloured(confidence, 0, 1)]))
    sigma = float(np.nanmean(sigmas)) if np.isfinite(sigmas).any() else float("nan")
    return float(np.nanmean(shares)), sigma


STAGE = Stage(
    "stereo",
    run,
    StereoOptions,
    reads=("scene", "matches"),
    files=files,
    check=check,
    counted=counted,
    resumable=True,
)
