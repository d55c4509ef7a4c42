"""The stage `export`: what people take away, a point cloud and a textured mesh in the world frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from export import cloud
from export.mesh import write as mesh
from export.mesh.light import Light
from export.sights import Sights
from utils.stages import Stage


@dataclass(frozen=True)
class ExportOptions(cloud.CloudOptions, mesh.MeshOptions):
    """What enters the point cloud and the mesh."""


def check(options: ExportOptions) -> None:
    """Raise InputError for options that nothing can be exported with."""
    cloud.check(options)
    mesh.check(options)


def run(
    options: ExportOptions,
    *,
    out: Path,
    scene: Path,
    poses: Path,
    prior: Path,
    nerf: Path,
    render: Path,
    filter: Path,
) -> str:
    """Write `cloud.ply` and the mesh from filtered depth of training frames, or from the prior without a field.

    Raises:
        NotApplicable: there is neither.
        InputError: no point is good enough.
    """
    sights = Sights.find(scene, poses, prior, nerf, render, filter)
    summary = cloud.write_cloud(options, sights, out)
    if len(sights) == 1:
        summary = f"{sights.source}: {summary}"
    if options.no_mesh:
        return summary
    light = Light.read(nerf, sights.dataset)
    return f"{summary}; {mesh.write_mesh(options, sights, light, render, out)}"


READS = ("scene", "poses", "prior", "nerf", "render", "filter")
STAGE = Stage("export", run, ExportOptions, READS, version=2, check=check)
