"""The trained flow between poses and images of one scene: image to pose, pose to image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from localisation.learned.network import NetworkShape, VelocityNetwork
from localisation.learned.pairs import PoseRange
from localisation.learned.pose_codes import PoseCode, read_code
from localisation.learned.small_images import Shrinker
from localisation.learned.steps import METHODS, STEPS, Velocity, follow, follow_back
from utils.artifacts import damaged, read_json, write_json
from utils.errors import InputError
from utils.finished_run import require_stages
from utils.stages import read_stamp
from utils.types import Camera, FloatArray

WEIGHTS, RECORD = "flow.safetensors", "flow.json"
_BATCH = 256


class Inversion(NamedTuple):
    """Poses of images.

    Attributes:
        world_from_camera: (k, 4, 4) mm, of the eye that took the images.
        residual: (k,) how far the found code is from that of any rigid pose, in standard deviations of the
            training poses: the larger, the less to be trusted.
        extra: `eigenvalues` (k, 3) of the centre's equations, the smallest along the weakest direction (NaN with
            the pose code `repeated`); `reach` (k,) how far from the training frames, in spreads of the training
            poses: above 1 the flow was never shown such a pose.
    """

    world_from_camera: FloatArray
    residual: FloatArray
    extra: dict[str, FloatArray]


@dataclass(frozen=True, eq=False)
class PoseFlow:
    """Velocity network, pose code and image scale of one scene.

    Attributes:
        network: in evaluation mode, on the CPU.
        code: of the poses.
        shrinker: makes the small images.
        poses: where the training poses were.
        image_mean, image_std: (3,) of the training images in [0, 1].
        sigma: of the noise on the codes, in standard deviations.
        record: what else is known: field, options, figures of the training.
    """

    network: VelocityNetwork
    code: PoseCode
    shrinker: Shrinker
    poses: PoseRange
    image_mean: FloatArray
    image_std: FloatArray
    sigma: float
    record: dict[str, Any]

    @staticmethod
    def load(folder: Path, field: str | None = None) -> PoseFlow:
        """Read what `python -m localisation.train_flow` wrote.

        Args:
            folder: `<run>/localisation/flow`.
            field: the hash in the stamp of the run's stage `nerf`; None: not compared.

        Raises:
            InputError: nothing there, a damaged file, or a flow of another field.
        """
        if not (folder / RECORD).is_file():
            raise InputError(
                f"{folder} has no trained flow",
                found=f"no {RECORD}",
                expected="what `python -m localisation.train_flow` writes",
                do="run `python -m localisation.make_pairs <run>`, then `python -m localisation.train_flow <run>`",
            )
        record = read_json(folder / RECORD)
        if field is not None and record.get("field") != field:
            raise InputError(
                f"{folder} belongs to another training of the field",
                found=f"a flow of the field {record.get('field')}",
                expected=f"one of {field}",
                do="make pairs and train the flow again: remove that folder and the pairs",
            )
        try:
            tensors = load_file(folder / WEIGHTS)
            network = VelocityNetwork(NetworkShape(**record["network"]))
            arrays = {key: tensors.pop(f"_{key}").numpy() for key in ("mean", "std", "border")}
            network.load_state_dict(tensors)
            shrinker = Shrinker(Camera(**record["camera"]), arrays["border"] > 0, network.shape.size)
            return PoseFlow(
                network.eval(),
                read_code(record["code"], arrays["mean"], arrays["std"]),
                shrinker,
                PoseRange.from_json(record["range"]),
                np.array(record["image_mean"]),
                np.array(record["image_std"]),
                float(record["sigma"]),
                record,
            )
        except (SafetensorError, OSError, KeyError, TypeError, RuntimeError) as error:
            raise damaged(folder / WEIGHTS, error) from error

    @staticmethod
    def of_run(run: Path, folder: Path | None = None) -> PoseFlow:
        """Return the flow that was trained on a run's present field. Raises InputError where there is none.

        Args:
            run: `logs/<expname>`.
            folder: of the flow; default `<run>/localisation/flow`.
        """
        require_stages(run, "scene", "poses", "nerf")
        return PoseFlow.load(folder or run / "localisation" / "flow", str(read_stamp(run / "nerf")["hash"]))

    def save(self, folder: Path) -> None:
        """Write weights and record; the record last, so that weights without one are no flow."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {key: value.contiguous() for key, value in self.network.state_dict().items()}
        tensors |= {
            "_mean": torch.from_numpy(np.ascontiguousarray(self.code.mean)),
            "_std": torch.from_numpy(np.ascontiguousarray(self.code.std)),
            "_border": torch.from_numpy(self.shrinker.border.astype(np.uint8)),
        }
        partial = folder / f"{WEIGHTS}.partial"
        save_file(tensors, partial)
        partial.replace(folder / WEIGHTS)
        known = {
            "network": asdict(self.network.shape),
            "camera": asdict(self.shrinker.camera),
            "code": self.code.record(),
            "range": self.poses.to_json(),
            "image_mean": self.image_mean.tolist(),
            "image_std": self.image_std.tolist(),
            "sigma": self.sigma,
        }
        write_json(folder / RECORD, self.record | known)

    def invert(
        self,
        images: Sequence[NDArray[Any]] | NDArray[Any],
        method: str = "one_step",
        steps: int | None = None,
        camera: Camera | None = None,
    ) -> Inversion:
        """Return where the left eye was when it took images.

        Args:
            images: (k, h, w, 3) of any size of the left camera's shape, or a list of such; uint8, or floats in
                [0, 1]; RGB, undistorted.
            method: `one_step` (the regression that the flow holds at t = 1), `euler`, `midpoint`, `fixed_point`.
            steps: of the others; None: as many as usual.
            camera: that took the images where it is not the left eye; the poses are its own then.

        Raises:
            InputError: images of another shape, an unknown method.
        """
        small = np.stack([self.shrinker.shrink(image, camera) for image in images])
        return self.invert_small(small, method, steps)

    def invert_small(
        self, small: NDArray[np.float32], method: str = "one_step", steps: int | None = None
    ) -> Inversion:
        """Return the poses of images (k, s, s, 3) in [0, 1] that have the flow's size already; see `invert`."""
        steps = _steps(method, steps)
        end = self._image_side(small)
        codes = [follow_back(self._velocity(camera_like=True), part, method, steps) for part in end.split(_BATCH)]
        found = self.code.decode(torch.cat(codes).numpy())
        extra = {"eigenvalues": found.eigenvalues, "reach": self.poses.reach(found.world_from_camera)}
        return Inversion(found.world_from_camera, found.residual, extra)

    def sample(
        self,
        world_from_left: FloatArray,
        method: str = "euler",
        steps: int | None = None,
        seed: int | None = 0,
    ) -> NDArray[np.float32]:
        """Return what the left eye would see from poses (n, 4, 4), mm: small images (n, s, s, 3) in [0, 1].

        Args:
            seed: of the noise on the codes; None: without noise.
        """
        steps = _steps(method, steps)
        start = torch.from_numpy(self.code.encode(np.asarray(world_from_left, np.float64)))
        if seed is not None:
            noise = torch.randn(start.shape, generator=torch.Generator().manual_seed(seed))
            start = start + self.sigma * noise
        ends = [follow(self._velocity(camera_like=False), part, method, steps) for part in start.split(_BATCH)]
        end = torch.cat(ends).numpy()
        both = np.moveaxis(0.5 * (end[:, :3] + end[:, 3:]), 1, -1)
        return np.asarray((both * self.image_std + self.image_mean).clip(0.0, 1.0), np.float32)

    def _image_side(self, small: NDArray[np.float32]) -> torch.Tensor:
        """Return the image side (k, 6, s, s) of the flow: the standardised image, twice."""
        scaled = torch.from_numpy(((small - self.image_mean) / self.image_std).astype(np.float32))
        return scaled.permute(0, 3, 1, 2).repeat(1, 2, 1, 1)

    def _velocity(self, *, camera_like: bool) -> Velocity:
        def velocity(x: torch.Tensor, time: float) -> torch.Tensor:
            return self.network(x, torch.full((len(x),), time), torch.full((len(x),), camera_like))

        return velocity


def _steps(method: str, steps: int | None) -> int:
    """Return how many steps a method takes. Raises InputError for a method or a number that there is not."""
    if method not in METHODS or (steps is not None and steps < 1):
        raise InputError(
            "the flow cannot be followed so",
            found=f"method {method}, {steps} steps",
            expected=f"a method of {', '.join(METHODS)}, and one step or more",
            do="correct --method or --steps",
        )
    return STEPS[method] if steps is None else steps
