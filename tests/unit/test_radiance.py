"""Colour under the endoscope's lamp: fall-off with distance, highlights, exposure between frames."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from nerf.radiance import Exposure, Light, Radiance, RadianceOptions, light_at

REFERENCE_MM = 80.0


def radiance(**options: object) -> Radiance:
    torch.manual_seed(0)
    return Radiance(RadianceOptions(**options), 8, REFERENCE_MM)  # type: ignore[arg-type]


def features(count: int) -> Tensor:
    return torch.randn(count, 8, generator=torch.Generator().manual_seed(1))


def lit(distance_mm: float, count: int = 5, tilt: float = 0.3) -> Light:
    """Return light from a lamp beside the camera, at a distance from a surface that faces the camera."""
    to_lamp = normalize(torch.tensor([[tilt, 0.0, -1.0]]), dim=-1)
    to_camera = torch.tensor([[0.0, 0.0, -1.0]])
    return Light(
        to_camera=to_camera.expand(count, 3),
        to_lamp=to_lamp.expand(count, 3),
        lamp_distance_mm=torch.full((count,), distance_mm),
        normal=to_camera.expand(count, 3),
    )


def exposure(gains: list[float], positions: list[float]) -> Exposure:
    model = Exposure(torch.tensor(positions))
    with torch.no_grad():
        model.log_gain.copy_(torch.log(torch.tensor(gains)))
    return model


def test_light_at_a_point_by_hand() -> None:
    point, lamp, normal = [[0.0, 0.0, 40.0]], [[30.0, 0.0, 0.0]], [[0.0, 0.0, -1.0]]
    found = light_at(torch.tensor(point), torch.zeros(1, 3), torch.tensor(lamp), torch.tensor(normal))
    np.testing.assert_allclose(found.to_camera, [[0, 0, -1]])
    np.testing.assert_allclose(found.to_lamp, [[0.6, 0, -0.8]], rtol=1e-6)
    np.testing.assert_allclose(found.lamp_distance_mm, [50])


@pytest.mark.parametrize("power", [0.9, 1.0, 2.0])
def test_at_twice_the_distance_light_is_two_to_the_minus_p(power: float) -> None:
    model = radiance()
    with torch.no_grad():
        model.falloff.fill_(power)
        near, far = model(features(5), lit(60.0)), model(features(5), lit(120.0))
    np.testing.assert_allclose(far / near, 2.0**-power, rtol=1e-5)


def test_at_the_reference_distance_light_is_neither_more_nor_less() -> None:
    model = radiance()
    with torch.no_grad():
        at_reference = model(features(5), lit(REFERENCE_MM))
        model.falloff.fill_(5.0)
        np.testing.assert_allclose(model(features(5), lit(REFERENCE_MM)), at_reference, rtol=1e-6)


def test_the_fall_off_starts_as_an_inverse_square_in_gamma_encoded_video() -> None:
    assert float(radiance().falloff.detach()) == pytest.approx(2 / 2.2, abs=0.02)


def test_without_the_lamp_its_place_does_not_matter() -> None:
    model = radiance(lamp=False)
    with torch.no_grad():
        here, there = model(features(5), lit(60.0, tilt=0.3)), model(features(5), lit(200.0, tilt=-0.9))
    assert torch.equal(here, there)


def test_with_the_lamp_its_direction_matters() -> None:
    model = radiance()
    with torch.no_grad():
        here, there = model(features(5), lit(60.0, tilt=0.3)), model(features(5), lit(60.0, tilt=-0.9))
    assert not torch.allclose(here, there)


def test_without_view_directions_only_the_distance_matters() -> None:
    model = radiance(use_viewdirs=False)
    with torch.no_grad():
        assert torch.equal(model(features(5), lit(60.0, tilt=0.3)), model(features(5), lit(60.0, tilt=-0.9)))
        assert not torch.equal(model(features(5), lit(60.0)), model(features(5), lit(70.0)))


def test_colour_is_never_negative() -> None:
    with torch.no_grad():
        assert float(radiance()(50 * features(500), lit(60.0, 500)).min()) >= 0


def test_a_highlight_is_a_spherical_gaussian_around_the_direction_that_mirrors_the_lamp() -> None:
    model = radiance(lobes=1)
    # the half-vector between camera and lamp turns away from the normal, at one distance
    lights = [lit(60.0, 1, tilt) for tilt in (0.0, 0.1, 0.2, 0.3, -0.2)]
    half = [float(normalize(light.to_camera + light.to_lamp, dim=-1)[0, 2]) for light in lights]
    with torch.no_grad():
        for part in (model.highlights.weight, model.highlights.bias, *model.body.parameters()):
            part.zero_()  # the lobe's axis is the normal, the body is the same everywhere
        model.highlights.bias[4] = 8.0
        bright = torch.cat([model(features(1), light) for light in lights])[:, 0].numpy()
        model.highlights.bias[4] = -80.0
        dull = torch.cat([model(features(1), light) for light in lights])[:, 0].numpy()
    highlight = bright - dull
    cosine = -np.array(half)
    slope = np.diff(np.log(highlight[:4])) / np.diff(cosine[:4])
    assert (np.diff(highlight[:4]) < 0).all()
    np.testing.assert_allclose(slope, slope[0], rtol=0.02)  # log is linear in the cosine
    np.testing.assert_allclose(highlight[4], highlight[2], rtol=0.02)  # as bright on the other side


def test_gains_of_training_frames_have_a_mean_of_one() -> None:
    model = exposure([0.5, 1.0, 2.0, 3.0], [0, 1, 2, 3])
    gains = model(torch.arange(4))
    np.testing.assert_allclose(torch.log(gains).mean().detach(), 0, atol=1e-6)
    np.testing.assert_allclose((gains[2] / gains[1]).detach(), 2.0, rtol=1e-6)
    np.testing.assert_allclose(model(torch.tensor([2, 0, 2])).detach(), gains[[2, 0, 2]].detach())


@pytest.mark.parametrize(
    ("position", "gain"),
    [
        (0.0, 0.5),
        (4.0, 1.0),
        (8.0, 2.0),
        (2.0, 0.5**0.5),  # half-way between log 0.5 and log 1
        (5.0, 2.0**0.25),
        (-3.0, 0.5),  # constant past the ends
        (11.0, 2.0),
    ],
)
def test_exposure_between_training_frames_by_hand(position: float, gain: float) -> None:
    # log gains log 0.5, 0, log 2 have a mean of zero already
    assert exposure([0.5, 1.0, 2.0], [0.0, 4.0, 8.0]).gain_at(position) == pytest.approx(gain, rel=1e-6)


def test_uneven_places_in_the_sequence() -> None:
    model = exposure([0.5, 2.0], [1.0, 5.0])
    assert model.gain_at(2.0) == pytest.approx(0.5 * 4**0.25, rel=1e-6)


def test_interpolated_gains_equal_learned_ones_at_training_frames() -> None:
    model = exposure([0.7, 1.3, 1.1, 0.9], [0, 1, 3, 7])
    learned = model(torch.arange(4)).detach()
    np.testing.assert_allclose([model.gain_at(place) for place in (0, 1, 3, 7)], learned, rtol=1e-6)
