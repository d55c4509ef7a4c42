"""Sweeps: all combinations of flags on one or many scenes, here or on a cluster, and tables of what they reach."""

import utils as utils  # before PyTorch: it says how OpenMP waits
