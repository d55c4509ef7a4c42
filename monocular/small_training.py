"""Train the small network on the training images of a scene, from sparse depth."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from monocular.depth_source import Map, MonocularOptions, Predict, Task
from monocular.field_depth import check_field, dense_views
from monocular.small_network import SmallDepthNetwork, network_input, read_at, scale_free_loss, working_size
from utils.devices import choose_device
from utils.errors import InputError, NotApplicable
from utils.sparse_depth import Cleaning, SparseDepth, cleaned, sparse_depth
from utils.sparse_points import training_points
from utils.training import CHECKPOINT, Schedule, run_steps
from utils.views import View

log = logging.getLogger("specula")

WEIGHTS = "small.safetensors"
_BATCH = 4  # images a step
_FEWEST_POINTS = 20  # of an image that the network learns from
_SMOOTHNESS = 0.02  # weight of the surfaces' roughness
_WEIGHT_DECAY = 1e-3
_SAVE_EVERY = 50  # steps


def check_small(options: MonocularOptions) -> None:
    """Raise InputError for a training that cannot be."""
    rate = options.monocular_lrate
    if options.monocular_iters < 1 or not (np.isfinite(rate) and rate > 0):
        raise InputError(
            "the small monocular network cannot be trained with these numbers",
            found=f"monocular_iters {options.monocular_iters}, monocular_lrate {rate:g}",
            expected="1 step or more, a learning rate above 0",
            do="correct --monocular_iters or --monocular_lrate",
        )
    check_field(options)


def prepare_small(task: Task) -> Predict:
    """Train the network on the training views; return the function that predicts a view.

    Raises:
        NotApplicable: there is no sparse depth to learn from.
    """
    targets, dense = _learnable(task), dense_views(task)
    if not targets:
        raise NotApplicable("no training image shows enough sparse points or matches to train a network with")
    scene, device = task.views.scene, choose_device(task.options.device)
    size = working_size(scene.rig.left.width, scene.rig.left.height)
    examples = [
        Example.of(scene.image(view.side, view.name), sparse, size, device) for view, sparse in targets.items()
    ]
    novel = [Example.of(one.image, one.depth, size, device) for one in dense]
    network = train(examples, task.options, task.work, novel)
    return lambda view: predict(network, scene.image(view.side, view.name), size)


def _learnable(task: Task) -> dict[View, SparseDepth]:
    """Return the clean sparse depth of the training views, and log how much of it was dropped."""
    views = task.views
    points = None if views.poses is None else training_points(views, task.poses)
    found: dict[View, SparseDepth] = {}
    total = Cleaning(0, 0, 0)
    for view in views.training():
        sparse, dropped = cleaned(sparse_depth(views, view, points, task.matches))
        total += dropped
        if len(sparse) >= _FEWEST_POINTS:
            found[view] = sparse
    log.info("monocular: sparse depth in %d training views: %s", len(found), total)
    return found


@dataclass(frozen=True, eq=False)
class Example:
    """An image as the network takes it (5, h, w); places of known depth (m, 2), -1 to 1; its log inverse (m,)."""

    inputs: Tensor
    places: Tensor
    log_inverse: Tensor

    @staticmethod
    def of(image: NDArray[np.uint8], sparse: SparseDepth, size: tuple[int, int], device: torch.device) -> Example:
        """Return the example that an image (h, w, 3), looked at in a size, and its sparse depth make."""
        places = (2 * sparse.pixels + 1) / image.shape[1::-1] - 1  # the first pixel's centre is half a pixel in
        parts = (
            network_input(image, size),
            torch.from_numpy(places),
            torch.from_numpy(-np.log(sparse.depth_mm)),
        )
        return Example(*(part.float().to(device) for part in parts))


def train(
    examples: Sequence[Example], options: MonocularOptions, work: Path, novel: Sequence[Example] = ()
) -> SmallDepthNetwork:
    """Return a network trained on examples of one size; its weights are kept in `work`.

    What a step sees follows from its number: from the checkpoint of a stopped training it goes on the same.

    Args:
        examples: training images with sparse depth.
        options: steps, learning rate, seed, and what `novel` weighs.
        work: the folder for checkpoint and weights.
        novel: images, taken or rendered, with the dense depth of a field; each step sees as many of them.

    Raises:
        InputError: the loss or its gradient is no number any more.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        network = SmallDepthNetwork().to(examples[0].inputs.device)

    def loss_of(step: int) -> Tensor:
        draw = np.random.default_rng([options.seed, step])
        loss = batch_loss(network, [examples[index] for index in draw.integers(0, len(examples), _BATCH)])
        if not novel:
            return loss
        shown = [novel[index] for index in draw.integers(0, len(novel), _BATCH)]
        return loss + options.ns_loss_weight * batch_loss(network, shown)

    schedule = Schedule(
        options.monocular_iters,
        options.monocular_lrate,
        options.seed,
        _SAVE_EVERY,
        _WEIGHT_DECAY,
        "--monocular_lrate",
    )
    loss = run_steps(network, "the small monocular network", loss_of, schedule, work)
    log.info("monocular: %d steps, loss %.4f at the end", schedule.steps, loss)
    (work / CHECKPOINT).unlink()
    save_file({name: value.cpu() for name, value in network.state_dict().items()}, str(work / WEIGHTS))
    return network


def batch_loss(network: SmallDepthNetwork, batch: Sequence[Example]) -> Tensor:
    """Return the mean loss of some examples, and a little of how rough the predicted surfaces are."""
    found = network(torch.stack([one.inputs for one in batch]))
    losses = [
        scale_free_loss(read_at(log_inverse, one.places), one.log_inverse)
        for log_inverse, one in zip(found, batch, strict=True)
    ]
    return torch.stack(losses).mean() + _SMOOTHNESS * roughness(found)


def roughness(log_inverse: Tensor) -> Tensor:
    """Return the mean absolute second difference of maps (b, h, w): 0 for what is linear."""
    down = log_inverse[:, 2:] - 2 * log_inverse[:, 1:-1] + log_inverse[:, :-2]
    across = log_inverse[..., 2:] - 2 * log_inverse[..., 1:-1] + log_inverse[..., :-2]
    return down.abs().mean() + across.abs().mean()


def predict(network: SmallDepthNetwork, image: NDArray[np.uint8], size: tuple[int, int]) -> Map:
    """Return the relative inverse depth of an image, (h, w), its geometric mean 1."""
    device = next(network.parameters()).device
    with torch.inference_mode():
        found = network(network_input(image, size)[None].to(device))[0].cpu().numpy()
    larger = cv2.resize(found - found.mean(), image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return np.exp(larger).astype(np.float32)
