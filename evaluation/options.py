"""Options of the stage `evaluation`."""

from __future__ import annotations

from dataclasses import dataclass

from utils.options import option


@dataclass(frozen=True)
class EvaluationOptions:
    """What to score against, and where the files of LPIPS lie."""

    datadir: str = option("", "folder of the dataset, as data_layout.md describes it")
    image_dir: str = option("images", "folder of the images of each eye: images or rectify")
    depth_png_mm: float | None = option(None, "mm per unit of 16-bit truth depth PNGs")
    disparity_png_px: float | None = option(None, "px per unit of truth disparity PNGs")
    truth_mesh: str | None = option(
        None,
        "true surface, mm, in the world of <datadir>/truth_poses.npz: PLY, OBJ, STL or OFF "
        "(default: truth_mesh.ply in the dataset, if there is one)",
    )
    lpips_heads: str | None = option(
        None, "file of LPIPS' linear heads for AlexNet, v0.1 (default: from an installed `lpips`)"
    )
    lpips_backbone: str | None = option(
        None, "torchvision's AlexNet checkpoint (default: alexnet-owt-7be5be79.pth in the torch hub cache)"
    )
    lpips_vgg_heads: str | None = option(
        None, "file of LPIPS' linear heads for VGG16, v0.1, of which the protocol endosurf is made"
    )
    lpips_vgg_backbone: str | None = option(
        None, "torchvision's VGG16 checkpoint (default: vgg16-397923af.pth in the torch hub cache)"
    )
    protocols: str = option("all", "other protocols to score under, see docs/protocols.md: all, none, or names")
    afsfm_frames: str | None = option(
        None, "list of the frames that the protocol afsfm scores: names, or AF-SfMLearner's own lines"
    )
    demo: bool = option(False, "a demonstration without truth: nothing is scored")
