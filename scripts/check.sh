#!/usr/bin/env bash
# Checks that a change must pass, in the active environment with the extras `train` and `test`:
#     scripts/check.sh                # lint, types and tests
#     scripts/check.sh lint types     # some of them
#     scripts/check.sh bench package  # the rest
set -euo pipefail
cd "$(dirname "$0")/.."

lint() {
  ruff check .
  ruff format --check .
  python scripts/api_page.py --check
}
types() {
  mypy
  mypy --strict edge
}
tests() { python -m pytest -q -n auto --dist worksteal; }
bench() {
  python -m training.bench encoder
  python -m training.bench stream
  python -m training.bench train
  python -m training.bench ratios
}
package() { scripts/check_package.sh dist; }

[ $# -gt 0 ] || set -- lint types tests
for part in "$@"; do
  case $part in
    lint | types | tests | bench | package) ;;
    *) echo "check.sh: unknown part '$part'; expected lint, types, tests, bench or package" >&2; exit 2 ;;
  esac
done
for part in "$@"; do
  printf '== %s\n' "$part"
  "$part"
done
