"""What all packages share. Importing it first makes idle OpenMP threads sleep and bars quiet in files."""

import os
import sys

# Must be set before PyTorch loads OpenMP. A thread that waits by spinning takes the core from what it waits for:
# beside one other busy process a training step took 450 ms instead of 60 ms on two cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Without a terminal a progress bar is one line now and then, not one a refresh. Read when tqdm is imported.
if not sys.stderr.isatty():
    os.environ.setdefault("TQDM_MININTERVAL", "20")
