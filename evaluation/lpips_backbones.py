"""The two backbones of LPIPS, AlexNet and VGG16: layers, which of them count, where weights are published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from torch import nn

_PUBLISHED = "https://download.pytorch.org/models/"


@dataclass(frozen=True)
class Backbone:
    """A network whose features LPIPS compares; layers have the places that torchvision's checkpoint gives them.

    Args:
        name: in words.
        file: torchvision's checkpoint.
        heads: the linear heads inside the package `lpips`, v0.1.
        heads_flag: the option that names the heads.
        backbone_flag: the option that names the checkpoint.
        smallest_px: a smaller image leaves nothing after the network's strides.
        build: returns the layers up to the last one that counts.
        counted: places of the layers whose output is compared.
        widths: how many channels they have.
    """

    name: str
    file: str
    heads: Path
    heads_flag: str
    backbone_flag: str
    smallest_px: int
    build: Callable[[], nn.Sequential]
    counted: tuple[int, ...]
    widths: tuple[int, ...]

    @property
    def address(self) -> str:
        """Where the checkpoint is published."""
        return _PUBLISHED + self.file


def _alexnet() -> nn.Sequential:
    relu, pool = nn.ReLU(), nn.MaxPool2d(3, 2)
    return nn.Sequential(
        *(nn.Conv2d(3, 64, 11, 4, 2), relu, pool),
        *(nn.Conv2d(64, 192, 5, 1, 2), relu, pool),
        *(nn.Conv2d(192, 384, 3, 1, 1), relu),
        *(nn.Conv2d(384, 256, 3, 1, 1), relu),
        *(nn.Conv2d(256, 256, 3, 1, 1), relu),
    )


def _vgg16() -> nn.Sequential:
    layers: list[nn.Module] = []
    for widths in ((3, 64, 64), (64, 128, 128), (128, 256, 256, 256), (256, 512, 512, 512), (512, 512, 512, 512)):
        if layers:
            layers.append(nn.MaxPool2d(2, 2))
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, 1, 1), nn.ReLU()]
    return nn.Sequential(*layers)


ALEX = Backbone(
    name="AlexNet",
    file="alexnet-owt-7be5be79.pth",
    heads=Path("weights") / "v0.1" / "alex.pth",
    heads_flag="--lpips_heads",
    backbone_flag="--lpips_backbone",
    smallest_px=31,
    build=_alexnet,
    counted=(1, 4, 7, 9, 11),
    widths=(64, 192, 384, 256, 256),
)
VGG = Backbone(
    name="VGG16",
    file="vgg16-397923af.pth",
    heads=Path("weights") / "v0.1" / "vgg.pth",
    heads_flag="--lpips_vgg_heads",
    backbone_flag="--lpips_vgg_backbone",
    smallest_px=16,
    build=_vgg16,
    counted=(3, 8, 15, 22, 29),  # relu1_2, 2_2, 3_3, 4_3, 5_3
    widths=(64, 128, 256, 512, 512),
)
