"""Score a finished run under other protocols: `python -m evaluation.protocols logs/<expname>`."""

import sys

from evaluation.protocols.command import main

sys.exit(main(sys.argv[1:]))
