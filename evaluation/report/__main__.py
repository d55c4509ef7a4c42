"""Write the report page of a finished run again: `python -m evaluation.report logs/<expname>`."""

import sys

from evaluation.report.page import main

sys.exit(main(sys.argv[1:]))
