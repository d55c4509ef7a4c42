"""What all tests share: OpenMP is told how to wait before PyTorch is loaded."""

import utils as utils
