"""Scores and tables, from files alone."""

import utils as utils  # before PyTorch: it says how OpenMP waits
