"""`training.fit` with the micro preset, for tests that train in their own processes.

With `--eager` first, nothing is traced.
"""

import sys

import pytest

from tests import micro
from training.fit import main

if __name__ == "__main__":
    micro.register()
    if sys.argv[1:2] == ["--eager"]:
        micro.run_eagerly(pytest.MonkeyPatch())
        del sys.argv[1]
    sys.exit(main())
