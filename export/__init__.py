"""What people take away: point clouds."""

import utils as utils  # before PyTorch: it says how OpenMP waits
