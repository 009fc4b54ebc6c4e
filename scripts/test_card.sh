#!/usr/bin/env bash
# Runs the tests with the packages of the extra `card` (TensorFlow 2.17.1, tensorflow-io, keras-nlp,
# tflite-runtime 2.14, numpy 1.26; see docs/packages.md) in a separate environment:
#     scripts/test_card.sh [FOLDER]   # keeps the environment in FOLDER
# Needs Python 3.11, 3 GB of disk and the package index; takes half an hour on 2 cores.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(command -v python3.11) || { echo "test_card.sh: needs python3.11" >&2; exit 1; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
card=${1:-$scratch/card}
export TF_CPP_MIN_LOG_LEVEL=3

[ -x "$card/bin/python" ] || "$python" -m venv "$card"
"$card/bin/pip" install -q -e '.[card,test]'
"$card/bin/pip" check
"$card/bin/pip" list --format=freeze |
  grep -E '^(ai-edge-litert|keras|keras-nlp|librosa|numpy|pytest|tensorflow|tensorflow-io|tflite-runtime)='
"$card/bin/python" -m pytest -q -n 2 --dist worksteal

# The edge tests again on tflite-runtime, since LiteRT takes precedence.
"$card/bin/pip" uninstall -q -y ai-edge-litert
"$card/bin/python" -m pytest -q \
  tests/edge/inference/test_{bundle,interpreter,probe,level,ring,streaming,frontend}.py \
  tests/edge/test_imports.py
"$card/bin/pip" install -q -e '.[card,test]'
