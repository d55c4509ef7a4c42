"""Zero-1-to-3-type diffusion models as a view prior: `python -m novel_view.diffusers_prior FOLDER` checks weights.

Such a model denoises the latents of a target view, given the latents of one condition image (in further channels)
and one vector: the image's CLIP embedding and the pose, projected together (Liu et al., Zero-1-to-3: Zero-shot One
Image to 3D Object, ICCV 2023). What it knows are pictures of single objects seen from all round, square, about
49 degrees wide, on white. How far that carries to tissue seen from within is for the user to judge: it imagines,
and nothing of what it imagines is measured. Weights are not part of this program.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as functional
from torch import Tensor

from novel_view.spherical_pose import spherical_steps
from novel_view.view_prior import Schedule
from novel_view.zero123_files import LICENCE, PUBLISHED, Components, fetch_model, load_components
from utils.commands import answer
from utils.devices import choose_device
from utils.errors import InputError
from utils.types import FloatArray

log = logging.getLogger("specula")

# The mean and spread of colours that CLIP was trained with (Radford et al. 2021, the published preprocessing).
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_TRAINED_UNITS = 1.85  # middle of the camera distances of the training renders, 1.5 to 2.2


@dataclass(frozen=True)
class Zero123Options:
    """How poses in mm are told to the model, and how strictly.

    Args:
        working_distance_mm: of the fixation points, along the axes of the conditions: the depth of the scene.
        mm_per_unit: mm for one of the model's units of length; None: the working distance is 1.85 units, the
            middle of what the models were trained with.
        guidance: scale of classifier-free guidance; 1 is the conditional prediction alone.
        warn_degrees, refuse_degrees: what the pose may have of roll, or of looking past the fixation point, which
            the model cannot be told; more than the one is logged, more than the other refused.
    """

    working_distance_mm: float
    mm_per_unit: float | None = None
    guidance: float = 3.0
    warn_degrees: float = 5.0
    refuse_degrees: float = 20.0

    def __post_init__(self) -> None:
        unit = self.mm_per_unit
        if not self.working_distance_mm > 0 or (unit is not None and not unit > 0) or not self.guidance >= 0:
            raise InputError(
                "the options of the diffusion prior make no sense",
                found=f"working distance {self.working_distance_mm}, {unit} mm a unit, guidance {self.guidance}",
                expected="lengths above 0, guidance from 0",
                do="give the median depth of the scene as working distance",
            )


@dataclass(eq=False)
class Zero123Prior:
    """A loaded model as a `ViewPrior`. Codes are latents (k, 4, h / 8, w / 8) of the published models, scaled."""

    parts: Components
    options: Zero123Options
    _told: tuple[Tensor, Tensor, Tensor, Tensor] | None = None

    @property
    def schedule(self) -> Schedule:
        """The noise that the model was trained with."""
        return self.parts.schedule

    @property
    def image_size(self) -> tuple[int, int]:
        """The (height, width) of its images, 256 x 256 in the published models."""
        return self.parts.image_size

    def encode(self, images: Tensor) -> Tensor:
        """Return scaled latents of images (k, 3, h, w) in [-1, 1]; gradients go through."""
        return (self._latents(images) * self.parts.vae.config.scaling_factor).to(images)

    def decode(self, codes: Tensor) -> Tensor:
        """Return the images (k, 3, h, w) of scaled latents."""
        vae = self.parts.vae
        return vae.decode((codes / vae.config.scaling_factor).to(vae.device, vae.dtype)).sample.to(codes)

    @torch.no_grad()
    def predict_noise(
        self, condition_images: Tensor, target_from_conditions: Tensor, noisy_codes: Tensor, step: int
    ) -> Tensor:
        """Return the guided noise (k, 4, h', w') of each condition: unguided + scale (conditional - unguided).

        Unguided means, as in training, that latents and vector of the condition are zero.

        Raises:
            InputError: images of another size, or a pose that the model cannot be told.
        """
        unet, scale = self.parts.unet, self.options.guidance
        beside, vector = self._tell(condition_images, target_from_conditions)
        noisy = noisy_codes.to(unet.device, unet.dtype)
        if scale == 1.0:
            return unet(torch.cat([noisy, beside], 1), step, encoder_hidden_states=vector).sample.to(noisy_codes)
        # Without a condition the same codes give the same noise: repeated ones are asked about once.
        once = noisy[:1] if len(noisy) == 1 or noisy_codes.stride(0) == 0 else noisy
        zero_beside, zero_vector = torch.zeros_like(beside[: len(once)]), torch.zeros_like(vector[: len(once)])
        asked = torch.cat([torch.cat([once, zero_beside], 1), torch.cat([noisy, beside], 1)])
        noise = unet(asked, step, encoder_hidden_states=torch.cat([zero_vector, vector])).sample.to(noisy_codes)
        unguided, guided = noise[: len(once)], noise[len(once) :]
        return unguided + scale * (guided - unguided)

    def _tell(self, images: Tensor, target_from_conditions: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the network hears of conditions, latents and vectors; kept, being alike at every step."""
        known = self._told
        if known and torch.equal(known[0], images) and torch.equal(known[1], target_from_conditions):
            return known[2], known[3]
        if images.shape[-2:] != self.image_size:
            raise InputError(
                "the condition images have another size than the diffusion model was made for",
                found="{} x {} px".format(*images.shape[-2:]),
                expected="{} x {} px (height x width)".format(*self.image_size),
                do="crop them to a square and resize them, and the target's camera alike",
            )
        poses = torch.as_tensor(self._pose_vectors(target_from_conditions), dtype=torch.float32)
        embedding = self._clip_embedding(images)
        vector = self.parts.projection(torch.cat([embedding, poses.to(embedding)], dim=1))[:, None]
        latents = self._latents(images)
        self._told = (images.clone(), target_from_conditions.clone(), latents, vector)
        return latents, vector

    def _pose_vectors(self, target_from_conditions: Tensor) -> FloatArray:
        options = self.options
        steps = spherical_steps(target_from_conditions.double().cpu().numpy(), options.working_distance_mm)
        for what, degrees in (
            ("looks past the fixation point", steps.off_axis_degrees),
            ("is rolled", steps.roll_degrees),
        ):
            worst = int(degrees.argmax())
            if degrees[worst] > options.refuse_degrees:
                raise InputError(
                    "the target pose cannot be told to the diffusion model",
                    found=f"seen from condition {worst + 1} it {what} by {degrees[worst]:.0f} degrees",
                    expected=f"at most {options.refuse_degrees:g}: the model knows cameras that look at one point",
                    do="choose a pose that looks at the same place, or conditions nearer to it",
                )
            if degrees[worst] > options.warn_degrees:
                log.warning(
                    "seen from condition %d the target %s by %.1f degrees, which the diffusion model is not told",
                    worst + 1,
                    what,
                    degrees[worst],
                )
        return steps.embedding(options.mm_per_unit or options.working_distance_mm / _TRAINED_UNITS)

    def _latents(self, images: Tensor) -> Tensor:
        """Return latents without their scale: the form in which the model takes those of conditions."""
        vae = self.parts.vae
        return vae.encode(images.to(vae.device, vae.dtype)).latent_dist.mode()

    def _clip_embedding(self, images: Tensor) -> Tensor:
        encoder = self.parts.image_encoder
        size = encoder.config.image_size
        colours = images.float().clamp(-1, 1).to(encoder.device)
        resized = functional.interpolate(colours, (size, size), mode="bicubic", align_corners=True) / 2 + 0.5
        mean, std = (resized.new_tensor(values)[:, None, None] for values in (_CLIP_MEAN, _CLIP_STD))
        return encoder(((resized - mean) / std).to(encoder.dtype)).image_embeds


def load_zero123(folder: Path, options: Zero123Options, device: str = "auto", download: str = "") -> Zero123Prior:
    """Return the prior of a folder of weights in diffusers layout.

    Args:
        folder: where the weights lie, or shall lie.
        options: how poses are told.
        device: auto, cpu or cuda; half precision on cuda.
        download: a repository on huggingface.co to fetch them from first; empty: nothing is downloaded.

    Raises:
        InputError: see `load_components` and `fetch_model`.
    """
    if download:
        fetch_model(download, folder)
    place = choose_device(device)
    half = place.type == "cuda"
    return Zero123Prior(load_components(folder, place, torch.float16 if half else torch.float32), options)


def main(arguments: Sequence[str]) -> int:
    """Run the command line. Return the exit status: 0 done, 2 a mistake in the input or a disk in trouble."""
    parser = argparse.ArgumentParser(
        prog="python -m novel_view.diffusers_prior", description="Check, or fetch, weights of a view prior."
    )
    parser.add_argument("folder", type=Path, help="weights in diffusers layout")
    parser.add_argument("--download", default="", metavar="OWNER/NAME", help=f"fetch them first, e.g. {PUBLISHED}")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda; default auto")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    return answer(lambda: _describe(given.folder, given.device, given.download))


def _describe(folder: Path, device: str, download: str) -> str:
    prior = load_zero123(folder, Zero123Options(100.0), device, download)
    networks = ("unet", "vae", "image_encoder")
    counts = [sum(each.numel() for each in getattr(prior.parts, name).parameters()) for name in networks]
    sizes = ", ".join(f"{name} {count / 1e6:.1f} M" for name, count in zip(networks, counts, strict=True))
    height, width = prior.image_size
    levels = f"{len(prior.schedule)} levels of noise"
    return f"{folder} can be used: {width} x {height} px, {levels}; parameters: {sizes}\n{LICENCE}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
