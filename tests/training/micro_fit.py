"""`training.fit` with the micro preset, for tests that train in their own processes."""

import sys

from tests import micro
from training.fit import main

if __name__ == "__main__":
    micro.register()
    sys.exit(main())
