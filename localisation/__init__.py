"""Where was this camera? Poses of new images in the frame of a finished run."""

import utils as utils  # before PyTorch: it says how OpenMP waits
