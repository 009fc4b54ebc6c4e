"""`python -m edge` runs `semanticac-edge`."""

import sys

from edge.cli import main

sys.exit(main())
