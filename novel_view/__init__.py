"""Views beyond what was seen: image priors asked for them, and kept apart from what was measured."""

import utils as utils  # before PyTorch: it says how OpenMP waits
