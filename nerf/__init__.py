"""The field: rays, sampling, light, training, refinement, rendering."""

import utils as utils  # before PyTorch: it says how OpenMP waits
