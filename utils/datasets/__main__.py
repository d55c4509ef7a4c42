"""Run `python -m utils.datasets`."""

import sys

from utils.datasets.command import main

sys.exit(main(sys.argv[1:]))
