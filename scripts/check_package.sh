#!/usr/bin/env bash
# Builds the source archive and the wheel into a folder and installs each in a fresh environment:
#     scripts/check_package.sh dist
# Needs the extra `test`, and the package index.
set -euo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "${1:?usage: scripts/check_package.sh FOLDER}"
dist=$(cd "$1" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

rm -f "$dist"/semanticac_keras-*
python -P -m build --outdir "$dist" "$repository" >"$scratch/log" || { tail -20 "$scratch/log" >&2; exit 1; }
python -m twine check --strict "$dist"/semanticac_keras-*
cd "$scratch" # a directory from which the checkout cannot be imported
for archive in "$dist"/semanticac_keras-*; do
  rm -rf fresh
  python -m venv fresh
  fresh/bin/pip install -q "$archive"
  fresh/bin/semanticac-edge --help >help.txt
  grep -q -- --mic help.txt
  echo "$(basename "$archive"): $(fresh/bin/semanticac-edge --version), $(du -sm fresh | cut -f1) MB installed"
done
