"""Renders and filtered depth of an eye that trained nothing owe nothing to its images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nerf.filtering import FilterOptions
from nerf.filtering import run as run_filter
from nerf.rendering import surrounds_of
from tests.finished_run import Example
from utils.artifacts import load_maps, map_path, save_maps
from utils.images import write_rgb
from utils.scene import Scene
from utils.types import Side


@pytest.fixture
def example(tmp_path: Path) -> Example:
    made = Example(tmp_path)
    rng = np.random.default_rng(3)
    for side, name in (("left", "a"), ("right", "a"), ("right", "b")):
        path = map_path(made.logs / "render", side, name)  # type: ignore[arg-type]
        maps = dict(np.load(path)) | {"rgb": rng.integers(0, 255, (36, 48, 3), dtype=np.uint8)}
        noisy = maps["depth_mm"] * (1 + rng.normal(0, 0.004, (36, 48)))
        save_maps(path.parent, side, name, **(maps | {"depth_mm": noisy.astype(np.float32)}))  # type: ignore[arg-type]
    return made


def filtered(example: Example, side: Side, name: str, *, binocular: bool) -> np.ndarray:
    out = example.logs / f"filter_{binocular}"
    run_filter(
        FilterOptions(train_binocular=binocular),
        out=out,
        scene=example.logs / "scene",
        render=example.logs / "render",
    )
    return load_maps(out, side, name)["depth_mm"]


@pytest.mark.parametrize(
    ("side", "name", "binocular", "may"),
    [
        ("right", "a", False, False),
        ("right", "a", True, True),
        ("left", "a", False, True),
        ("right", "b", True, False),  # held out
    ],
)
def test_the_filter_looks_at_images_that_train_the_field_alone(
    example: Example, side: Side, name: str, binocular: bool, may: bool
) -> None:
    before = filtered(example, side, name, binocular=binocular)
    image = np.random.default_rng(9).integers(0, 255, (36, 48, 3), dtype=np.uint8)
    write_rgb(Scene.load(example.logs / "scene").image_path(side, name), image)
    after = filtered(example, side, name, binocular=binocular)
    assert np.array_equal(before, after, equal_nan=True) is not may


def test_the_border_of_an_eye_that_trained_nothing_is_the_other_eyes(example: Example) -> None:
    scene = Scene.load(example.logs / "scene")
    for side, wide in (("left", 6), ("right", 10)):
        for name in scene.names:
            tissue = np.ones((36, 48), bool)
            tissue[:, :wide] = False
            image = np.full((36, 48, 3), 200 if side == "right" else 40, np.uint8)
            image[:, 0] = 250 if side == "right" else 10
            save_maps(scene.folder / "masks", side, name, tissue=tissue, highlight=~tissue)  # type: ignore[arg-type]
            write_rgb(scene.image_path(side, name), image)  # type: ignore[arg-type]
    found = surrounds_of(scene, {"left"})["right"]
    assert found is not None
    assert found.never_tissue[:, :10].all()
    np.testing.assert_array_equal(found.colour[:, 0], 10)
    np.testing.assert_array_equal(found.colour[:, 1:10], 40)  # past the left eye's border: its usual colour
    own = surrounds_of(scene, {"left", "right"})["right"]
    assert own is not None
    assert own.colour[5, 0, 0] == 250


def test_without_a_known_border_it_is_black(example: Example) -> None:
    scene = Scene.load(example.logs / "scene")
    tissue = np.ones((36, 48), bool)
    tissue[:, :4] = False
    for name in scene.names:
        save_maps(scene.folder / "masks", "right", name, tissue=tissue, highlight=~tissue)
    found = surrounds_of(scene, {"left"})
    assert found["left"] is None
    assert found["right"] is not None
    assert not found["right"].colour.any()
