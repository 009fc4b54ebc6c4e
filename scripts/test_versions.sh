#!/usr/bin/env bash
# Installs the wheel under each available supported Python and runs the tests against it:
#     scripts/test_versions.sh                       # python3.11, python3.12, python3.13
#     scripts/test_versions.sh /opt/python/bin/python3.12
# Needs the package index and 3 GB of disk; takes a quarter of an hour per Python on 2 cores.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- python3.11 python3.12 python3.13
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export TF_CPP_MIN_LOG_LEVEL=3

# Copy the tests without the packages, so that only the installed packages can be imported.
mkdir "$scratch/checkout"
cp -r docs pyproject.toml scripts tests "$scratch/checkout/"
tried=0
for python in "$@"; do
  if ! command -v "$python" >/dev/null; then
    echo "$python: not installed, not tested"
    continue
  fi
  "$python" -m venv "$scratch/venv"
  "$scratch/venv/bin/pip" wheel -q --no-deps -w "$scratch" .
  wheel=$(echo "$scratch"/semanticac_keras-*.whl)
  "$scratch/venv/bin/pip" install -q "$wheel[train,test]"
  "$scratch/venv/bin/pip" check
  (cd "$scratch/checkout" && "$scratch/venv/bin/pytest" -q -n 2 --dist worksteal -m 'not slow' \
    tests/edge tests/semanticac_keras tests/training/datasets tests/training/test_fit.py)
  "$scratch/venv/bin/python" -c 'import platform, keras, numpy, tensorflow
print(f"Python {platform.python_version()}: passed with numpy {numpy.__version__}, "
      f"keras {keras.__version__}, tensorflow {tensorflow.__version__}")'
  rm -rf "$scratch/venv" "$wheel"
  tried=$((tried + 1))
done
[ "$tried" -gt 0 ]
