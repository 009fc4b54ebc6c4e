"""`training.fit` that knows the micro preset: for tests that train in processes of their own."""

import sys

from tests import micro
from training.fit import main

if __name__ == "__main__":
    micro.register()
    sys.exit(main())
