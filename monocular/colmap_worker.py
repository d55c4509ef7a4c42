"""Run COLMAP in a process of its own: `python -m monocular.colmap_worker JOB.json`.

pycolmap can abort the whole process; here that costs a worker and not the run. This is the only file that
imports pycolmap.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2  # noqa: F401 - before pycolmap: in the other order cv2.imwrite aborts the process
import numpy as np
import pycolmap

from monocular.colmap_arrays import (
    LARGE_IMAGE_PX,
    colmap_parameters,
    feature_settings,
    forget_pairs,
    image_name,
    image_pairs,
    settling,
    split_name,
    world_from_side,
    write_arrays,
)
from utils.artifacts import read_json, write_json
from utils.geometry import FloatArray, invert_rigid
from utils.types import Rig

_ROBUST_PX = 0.4  # of the soft L1 loss of the last adjustment
_LARGEST_PX = 1.5  # observations farther from their point are dropped around it
_FEWEST_OBSERVATIONS = 20  # a frame with fewer stands anywhere: it is given back
_SMALLEST_ANGLE_DEGREES = 0.8


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    """Do what a job asks, write `model.npz` and `sparse/` into `job["out"]`; return counts for the report.

    Args:
        job: `action`: "map" (poses and points), "known" (points for given poses, adjusted where `refine`) or
            "read" (the folder `model`). `rig`, `names`, `sides`, `images`, `masks`, `database`, `out`, `seed`.
            For "known" `poses` (npz), `fixed` (frames that the adjustment must not move). `scale`:
            {"travel": length from the first to the last frame}, {"median_depth": length} or {} to keep it.
    """
    pycolmap.logging.minloglevel = 2
    out, counts = Path(job["out"]), {}
    if job["action"] == "read":
        model = pycolmap.Reconstruction(job["model"])
        write_arrays(model, job["names"], out / "model.npz")
        return {"images_in_model": sorted(image.name for image in model.images.values())[:5]}
    if not Path(job["database"]).exists():
        counts = _prepare_database(job)
    if job["action"] == "map":
        models = _map(job, out / "mapping")
        counts["models"] = sorted((model.num_reg_frames() for model in models), reverse=True)
        if not models:
            return counts
        reconstruction = max(models, key=lambda model: (model.num_reg_frames(), model.num_points3D()))
        _adjust(job, reconstruction)
        _give_back_loose_frames(reconstruction)
    else:
        reconstruction = _known(job, out)
    _filter(reconstruction)
    counts |= _settle(job, reconstruction)
    write_arrays(reconstruction, job["names"], out / "model.npz")
    (out / "sparse").mkdir()
    reconstruction.write(str(out / "sparse"))
    return counts


def _prepare_database(job: dict[str, Any]) -> dict[str, Any]:
    """Import the images, extract features, say which cameras form a rig, match."""
    database, images = job["database"], job["images"]
    pycolmap.Database.open(database).close()
    rig = Rig.from_json(job["rig"])
    for side in job["sides"]:
        reader = pycolmap.ImageReaderOptions(
            camera_model="PINHOLE",
            camera_params=",".join(f"{value:.17g}" for value in colmap_parameters(rig.camera(side))),
        )
        names = [image_name(side, name) for name in job["names"]]
        pycolmap.import_images(database, images, pycolmap.CameraMode.SINGLE, names, reader)
    _say("features", 0, 0)
    _extract(job, rig)
    if len(job["sides"]) == 2:
        with pycolmap.Database.open(database) as opened:
            pycolmap.apply_rig_config([_rig_config(rig)], opened)
    _say("matching", 0, 0)
    _match(job)
    with pycolmap.Database.open(database) as opened:
        keypoints = [opened.num_keypoints_for_image(image.image_id) for image in opened.read_all_images()]
        return {"keypoints": int(np.median(keypoints)), "pairs": opened.num_verified_image_pairs()}


def _say(phase: str, done: int, of: int) -> None:
    """Tell the parent process how far the work is, one JSON line."""
    sys.stdout.write(json.dumps({"phase": phase, "done": done, "of": of}) + "\n")
    sys.stdout.flush()


def _extract(job: dict[str, Any], rig: Rig) -> None:
    """Find features outside the masks: more and weaker ones than COLMAP's defaults, tissue has few strong."""
    options = pycolmap.FeatureExtractionOptions()
    settings = feature_settings(rig.left.width, rig.left.height)
    options.max_image_size = LARGE_IMAGE_PX
    options.sift.max_num_features = settings["features"]
    options.sift.peak_threshold = 0.004 / 3
    options.sift.first_octave, options.sift.num_octaves = settings["first_octave"], settings["octaves"]
    pycolmap.extract_features(
        job["database"],
        job["images"],
        reader_options=pycolmap.ImageReaderOptions(mask_path=job["masks"]),
        extraction_options=options,
        device=pycolmap.Device.cpu,
    )


def _match(job: dict[str, Any]) -> None:
    """Match the image pairs of the list, in one thread: more would change their order and the result."""
    matching = pycolmap.FeatureMatchingOptions(num_threads=1)
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed, verification.ransac.max_error = job["seed"], 2.0
    verification.min_num_inliers, verification.detect_watermark = 12, False  # static borders are masked
    listed = Path(job["out"]) / "pairs.txt"
    listed.write_text("".join(f"{a} {b}\n" for a, b in image_pairs(job["names"], job["sides"])))
    pycolmap.match_image_pairs(
        job["database"],
        matching_options=matching,
        pairing_options=pycolmap.ImportedPairingOptions(match_list_path=str(listed)),
        verification_options=verification,
        device=pycolmap.Device.cpu,
    )


def _rig_config(rig: Rig) -> Any:
    if rig.right_from_left is None:
        raise ValueError("this rig has no right eye")
    right = pycolmap.RigConfigCamera(
        ref_sensor=False, image_prefix="right/", cam_from_rig=_rigid3d(rig.right_from_left)
    )
    return pycolmap.RigConfig(cameras=[pycolmap.RigConfigCamera(ref_sensor=True, image_prefix="left/"), right])


def _pipeline_options(job: dict[str, Any]) -> Any:
    """Return mapping options: calibration fixed, small motions and few features allowed, repeatable."""
    options = pycolmap.IncrementalPipelineOptions()
    options.ba_refine_sensor_from_rig = options.ba_refine_extra_params = False
    options.ba_refine_focal_length = options.ba_refine_principal_point = False
    options.ba_global_frames_ratio = options.ba_global_points_ratio = 1.4
    options.ba_global_max_refinements, options.ba_local_max_refinements = 2, 1
    options.num_threads = options.mapper.num_threads = 1
    options.random_seed = options.mapper.random_seed = options.triangulation.random_seed = job["seed"]
    options.extract_colors = False
    options.structure_less_registration_fallback = False  # odometry places what the points do not
    options.min_model_size, options.max_num_models, options.min_num_matches = 3, 5, 12
    options.mapper.init_min_tri_angle, options.mapper.init_min_num_inliers = 4.0, 50
    options.mapper.abs_pose_refine_focal_length = options.mapper.abs_pose_refine_extra_params = False
    options.mapper.abs_pose_min_num_inliers, options.mapper.abs_pose_max_error = 20, 6.0
    options.mapper.filter_max_reproj_error = 2.0
    options.triangulation.merge_max_reproj_error = options.triangulation.complete_max_reproj_error = 2.0
    return options


def _map(job: dict[str, Any], folder: Path) -> list[Any]:
    """Map incrementally; return the models."""
    folder.mkdir(parents=True)
    placed = 0

    def one_more() -> None:
        nonlocal placed
        placed += 1
        _say("mapping", min(placed + 2, len(job["names"])), len(job["names"]))

    models = pycolmap.incremental_mapping(
        job["database"], job["images"], str(folder), _pipeline_options(job), next_image_callback=one_more
    )
    return list(models.values())


def _known(job: dict[str, Any], out: Path) -> Any:
    """Triangulate points for the given poses; adjust both where asked, twice, for tracks grow in between.

    Frames without a pose say nothing: no track leads from image to image through them.
    """
    with np.load(job["poses"]) as file:
        poses = dict(zip((str(name) for name in file["names"]), file["world_from_left"], strict=True))
    database = shutil.copy(job["database"], out / "known.db")
    with pycolmap.Database.open(database) as opened:
        forget_pairs(opened, [name for name, pose in poses.items() if np.isfinite(pose).all()])
    for attempt in range(3 if job["refine"] else 1):
        _say("triangulation", attempt, 3 if job["refine"] else 1)
        folder = out / f"triangulation{attempt}"
        folder.mkdir()
        reconstruction = pycolmap.triangulate_points(
            _posed(job, poses), database, job["images"], str(folder), options=_pipeline_options(job)
        )
        if job["refine"] and reconstruction.num_points3D() > 0:
            _adjust(job, reconstruction)
            poses = world_from_side(reconstruction, "left")
    return reconstruction


def _posed(job: dict[str, Any], poses: dict[str, FloatArray]) -> Any:
    """Return a reconstruction without points whose frames stand at the given poses."""
    reconstruction = pycolmap.Reconstruction()
    with pycolmap.Database.open(job["database"]) as database:
        for camera in database.read_all_cameras():
            reconstruction.add_camera(camera)
        for rig in database.read_all_rigs():
            reconstruction.add_rig(rig)
        images = {image.image_id: image for image in database.read_all_images()}
        placed = set()
        for frame in database.read_all_frames():
            name = split_name(images[min(data.id for data in frame.data_ids)].name)[1]
            if name not in poses or not np.isfinite(poses[name]).all():
                continue
            frame.rig_from_world = _rigid3d(invert_rigid(poses[name]))
            reconstruction.add_frame(frame)
            placed.add(frame.frame_id)
        for image in images.values():
            if image.frame_id in placed:
                reconstruction.add_image(image)
        for frame_id in sorted(placed):
            reconstruction.register_frame(frame_id)
    return reconstruction


def _adjust(job: dict[str, Any], reconstruction: Any) -> None:
    """Adjust frames and points over the good observations; calibration stays fixed."""
    _filter(reconstruction)
    config = pycolmap.BundleAdjustmentConfig()
    fixed = []
    for image_id in reconstruction.reg_image_ids():
        image = reconstruction.image(image_id)
        config.add_image(image_id)
        if split_name(image.name)[1] in job["fixed"]:
            fixed.append(image.frame_id)
    for camera_id in reconstruction.cameras:
        config.set_constant_cam_intrinsics(camera_id)
    if not fixed and len(job["sides"]) == 1:  # one eye leaves the scale open
        config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    for frame_id in set(fixed) or {min(reconstruction.reg_frame_ids())}:
        config.set_constant_rig_from_world_pose(frame_id)
    options = pycolmap.BundleAdjustmentOptions()
    options.refine_focal_length = options.refine_principal_point = options.refine_extra_params = False
    options.refine_sensor_from_rig = options.print_summary = False
    options.ceres.loss_function_type = pycolmap.LossFunctionType.SOFT_L1
    options.ceres.loss_function_scale = _ROBUST_PX
    solver = options.ceres.solver_options
    solver.num_threads, solver.max_num_iterations, solver.function_tolerance = 1, 40, 1e-7
    pycolmap.create_default_bundle_adjuster(options, config, reconstruction).solve()


def _filter(reconstruction: Any) -> None:
    """Drop observations far from their point, and points without parallax."""
    if reconstruction.num_points3D() > 0:
        manager = pycolmap.ObservationManager(reconstruction)
        manager.filter_points3D(_LARGEST_PX, _SMALLEST_ANGLE_DEGREES, set(reconstruction.point3D_ids()))


def _give_back_loose_frames(reconstruction: Any) -> None:
    """Take out frames that hardly any point holds; one of them may be metres away and nothing else shows it."""
    _filter(reconstruction)
    observed: dict[int, int] = dict.fromkeys(reconstruction.reg_frame_ids(), 0)
    for image_id in reconstruction.reg_image_ids():
        image = reconstruction.image(image_id)
        observed[image.frame_id] += image.num_points3D
    loose = [frame_id for frame_id, count in observed.items() if count < _FEWEST_OBSERVATIONS]
    if len(loose) < len(observed):
        manager = pycolmap.ObservationManager(reconstruction)
        for frame_id in loose:
            manager.deregister_frame(frame_id)


def _settle(job: dict[str, Any], reconstruction: Any) -> dict[str, Any]:
    """Put the world into the first placed left camera and give it its scale; say by what it was multiplied."""
    scale, settled_from_world, record = settling(reconstruction, job["names"], job["scale"])
    rotation = pycolmap.Rotation3d(settled_from_world[:3, :3])
    reconstruction.transform(pycolmap.Sim3d(scale, rotation, scale * settled_from_world[:3, 3]))
    return record


def _rigid3d(matrix: FloatArray) -> Any:
    return pycolmap.Rigid3d(pycolmap.Rotation3d(matrix[:3, :3]), matrix[:3, 3])


def main(arguments: Sequence[str]) -> None:
    """Read a job file, do it, write `result.json` beside what it made."""
    job = read_json(Path(arguments[0]))
    write_json(Path(job["out"]) / "result.json", run_job(job))


if __name__ == "__main__":
    main(sys.argv[1:])
