"""`python -m perdure`: the command line, where its script is not on the path."""

import sys

from perdure.surfaces.cli import main

sys.exit(main())
