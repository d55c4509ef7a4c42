"""What all packages share. Importing it first also makes idle OpenMP threads sleep."""

import os

# Must be set before PyTorch loads OpenMP. A thread that waits by spinning takes the core from what it waits for:
# beside one other busy process a training step took 450 ms instead of 60 ms on two cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
