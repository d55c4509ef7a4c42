"""The files of a Zero-1-to-3-type model as diffusers stores them: checked, loaded, and fetched when asked for."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from novel_view.view_prior import Schedule
from utils.errors import InputError
from utils.weights import library, require_library

log = logging.getLogger("specula")

EXTRA = "diffusion"
PUBLISHED = "bennyguo/zero123-xl-diffusers"
LICENCE = (
    "Zero-1-to-3 (Columbia University): MIT, by its model card for research; trained from Stable Diffusion, whose "
    "licence CreativeML OpenRAIL-M restricts uses (its attachment A): read it before any clinical use"
)
POSE_NUMBERS = 4
_PROJECTIONS = ("clip_camera_projection", "cc_projection")
_CONFIGURATIONS = {
    "unet": "config.json",
    "vae": "config.json",
    "image_encoder": "config.json",
    "scheduler": "scheduler_config.json",
}
_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin", "pytorch_model.bin")
_BROKEN = (OSError, RuntimeError, ValueError, KeyError, TypeError)


@dataclass(frozen=True, eq=False)
class Components:
    """The loaded parts of a model; all without gradients, in evaluation mode."""

    unet: Any
    vae: Any
    image_encoder: Any
    projection: nn.Linear
    schedule: Schedule
    image_size: tuple[int, int]


def load_components(folder: Path, device: torch.device, dtype: torch.dtype) -> Components:
    """Load a model. Nothing is downloaded.

    Args:
        folder: with `unet`, `vae`, `image_encoder`, `scheduler`, and `clip_camera_projection` or `cc_projection`.
        device, dtype: of the networks.

    Raises:
        InputError: no library, no such folder, a part missing or damaged, or the parts of another kind of model.
    """
    for name in ("diffusers", "transformers"):
        require_library(name, EXTRA)
    size = check_folder(folder)
    diffusers, transformers = library("diffusers", EXTRA), library("transformers", EXTRA)
    kinds = {
        "unet": diffusers.UNet2DConditionModel,
        "vae": diffusers.AutoencoderKL,
        "image_encoder": transformers.CLIPVisionModelWithProjection,
    }
    parts = {name: _load_part(kind, folder / name).to(device, dtype) for name, kind in kinds.items()}
    projection = read_projection(_projection_folder(folder)).to(device, dtype)
    scheduler = _load_part(diffusers.DDIMScheduler, folder / "scheduler", ready=False)
    for module in (*parts.values(), projection):
        module.requires_grad_(False).eval()
    width = parts["image_encoder"].config.projection_dim
    across = parts["unet"].config.cross_attention_dim
    if (projection.in_features, projection.out_features) != (width + POSE_NUMBERS, across):
        raise _another_model(
            folder,
            f"a projection from {projection.in_features} to {projection.out_features} numbers",
            f"one from {width} + {POSE_NUMBERS} (image and pose) to {across}",
        )
    return Components(**parts, projection=projection, schedule=Schedule(scheduler.alphas_cumprod), image_size=size)


def check_folder(folder: Path) -> tuple[int, int]:
    """Read the configurations of a model; return the (height, width) of its images.

    Raises:
        InputError: a part missing, or the parts of another kind of model. No weights are read for it.
    """
    if not folder.is_dir():
        raise _missing(folder, "no such folder")
    absent = [name for name, file in _CONFIGURATIONS.items() if not (folder / name / file).is_file()]
    absent += [] if any((folder / name).is_dir() for name in _PROJECTIONS) else [" or ".join(_PROJECTIONS)]
    if absent:
        raise _missing(folder, f"no {', no '.join(absent)}")
    unet, vae, _, scheduler = (_read_json(folder / name / file) for name, file in _CONFIGURATIONS.items())
    latent = vae.get("latent_channels", 4)
    if (unet.get("in_channels"), unet.get("out_channels")) != (2 * latent, latent):
        raise _another_model(
            folder,
            f"a UNet from {unet.get('in_channels')} to {unet.get('out_channels')} channels",
            f"one from {2 * latent} (noisy latents and those of the condition) to {latent}",
        )
    if scheduler.get("prediction_type", "epsilon") != "epsilon":
        raise _another_model(
            folder, f"a network that predicts {scheduler['prediction_type']}", "one that predicts the noise"
        )
    size = int(unet.get("sample_size") or 32) * 2 ** (len(vae.get("block_out_channels", range(4))) - 1)
    return size, size


def fetch_model(repository: str, folder: Path) -> None:
    """Download a model from the Hugging Face hub into a folder: what `--download` asks for, and nothing else does.

    Only the parts that are used, as data: no code of the repository is fetched or run.

    Raises:
        InputError: no library, no such repository, or no connection.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise InputError(
            "--download does not name a repository",
            found=repository,
            expected=f"owner/name on huggingface.co, such as {PUBLISHED}",
            do="correct the name",
        )
    hub = library("huggingface_hub", EXTRA)
    log.info("downloading %s (about 5 GB) into %s. Licence of %s: %s", repository, folder, PUBLISHED, LICENCE)
    wanted = [f"{name}/*" for name in (*_CONFIGURATIONS, *_PROJECTIONS)]
    try:
        hub.snapshot_download(
            repository,
            local_dir=folder,
            allow_patterns=[f"{each}.{kind}" for each in wanted for kind in ("json", "safetensors", "bin")],
        )
    except (OSError, ValueError, hub.errors.HfHubHTTPError) as error:
        raise InputError(
            f"{repository} cannot be downloaded",
            found=" ".join(str(error).split())[:200],
            expected="a public repository on huggingface.co, and a connection to it",
            do=f"download it on another machine, copy it to {folder}, and leave --download out",
        ) from error


def read_projection(folder: Path) -> nn.Linear:
    """Return the one linear layer of a projection, whatever its name. Raises InputError for anything else."""
    path = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    if path is None:
        raise _missing(folder, f"none of {', '.join(_WEIGHTS)}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            stored: Mapping[str, torch.Tensor] = load_file(path)
        else:
            stored = torch.load(path, map_location="cpu", weights_only=True)
        weight = _only(stored, ".weight", 2)
        bias = _only(stored, ".bias", 1)
    except (*_BROKEN, EOFError) as error:
        raise _damaged(folder, error) from error
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer


def _only(stored: Mapping[str, torch.Tensor], ending: str, dimensions: int) -> torch.Tensor:
    found = [value for name, value in stored.items() if f".{name}".endswith(ending) and value.ndim == dimensions]
    if len(found) != 1 or len(stored) != 2:
        raise ValueError(f"it holds {', '.join(stored) or 'nothing'}, not the weight and bias of one linear layer")
    return found[0].float()


def _load_part(kind: Any, folder: Path, *, ready: bool = True) -> Any:
    """Return a part made by its own class from a local folder; one of networks must have all its weights."""
    try:
        if not ready:
            return kind.from_pretrained(folder, local_files_only=True)
        part, report = kind.from_pretrained(folder, local_files_only=True, output_loading_info=True)
    except _BROKEN as error:
        raise _damaged(folder, error) from error
    lacking = sorted(report["missing_keys"])
    if lacking:
        raise _damaged(folder, ValueError(f"{len(lacking)} weights are not in the files, {lacking[0]} for one"))
    return part


def _projection_folder(folder: Path) -> Path:
    return next(folder / name for name in _PROJECTIONS if (folder / name).is_dir())


def _read_json(path: Path) -> dict[str, Any]:
    try:
        read = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    return read if isinstance(read, dict) else {}


def _missing(folder: Path, found: str) -> InputError:
    return InputError(
        f"{folder} holds no Zero-1-to-3-type weights",
        found=found,
        expected=f"the folders {', '.join(_CONFIGURATIONS)} and {' or '.join(_PROJECTIONS)} of a diffusers model",
        do=f"name the folder that has them, or add --download {PUBLISHED} ({LICENCE})",
    )


def _another_model(folder: Path, found: str, expected: str) -> InputError:
    return InputError(
        f"{folder} holds another kind of model",
        found=found,
        expected=expected,
        do=f"take weights like {PUBLISHED}",
    )


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path} cannot be read",
        found=" ".join(str(error).split())[:200],
        expected="files as diffusers writes them",
        do="download or copy them again",
    )
