"""Two cameras: calibration, matches, stereo depth, and the prior that is fused from it."""

import utils as utils  # before PyTorch: it says how OpenMP waits
