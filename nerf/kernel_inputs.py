"""The parameters of a model as the compiled kernels want them: arrays that share their memory."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from nerf.colour_kernel import RadianceLayers
from nerf.field_kernel import Array, Geometry
from nerf.fields import SurfaceField
from nerf.radiance import Radiance


def array_of(parameter: Tensor) -> Array:
    """Return a tensor of the CPU as an array over the same memory."""
    array: Array = parameter.detach().numpy()
    return array


def geometry_of(field: SurfaceField) -> Geometry:
    """Return the network behind a field's features."""
    w1 = array_of(field.hidden.weight)
    biases = array_of(field.hidden.bias), array_of(field.distance.bias)
    return Geometry(np.ascontiguousarray(w1.T), w1, biases[0], array_of(field.distance.weight)[0], biases[1])


def networks(radiance: Radiance) -> tuple[nn.Linear, nn.Linear, nn.Linear, nn.Linear]:
    """Return the layers that make colour, in the order of `RadianceLayers`."""
    return radiance.trunk, radiance.body, radiance.colour, radiance.highlights


def layers_of(radiance: Radiance) -> RadianceLayers:
    """Return the layers that make colour; no lobes where highlights are switched off."""
    trunk, body, colour, lobes = (array_of(layer.weight) for layer in networks(radiance))
    trunk_b, body_b, colour_b, lobes_b = (array_of(layer.bias) for layer in networks(radiance))
    if not radiance.has_highlights:
        lobes, lobes_b = lobes[:0], lobes_b[:0]
    turned = np.ascontiguousarray(trunk.T), np.ascontiguousarray(body.T)
    return RadianceLayers(turned[0], trunk, trunk_b, turned[1], body, body_b, colour, colour_b, lobes, lobes_b)
