"""One camera: poses by COLMAP, odometry or files, and depth from single images."""

import utils as utils  # before PyTorch: it says how OpenMP waits
