#!/usr/bin/env bash
# Installs the wheel in an emulated 64-bit ARM machine (Debian 12, like Raspberry Pi OS) and classifies
# a recording there:
#     sudo scripts/test_arm64.sh RECORDING [BUNDLE]    # default: the packaged model
# Needs debootstrap, qemu-user-static, Debian's archive and the package index. The machine is created
# on each run, or kept in $SEMANTICAC_ARM64_ROOT, which saves some minutes on the next run.
set -euo pipefail
recording=$(realpath "${1:?usage: scripts/test_arm64.sh RECORDING [BUNDLE]}")
bundle=${2:+$(realpath "$2")}
cd "$(dirname "$0")/.."

# Use a separate mount namespace, so that mounts and emulator end with this script.
if [ -z "${SEMANTICAC_ARM64_INSIDE:-}" ]; then
  SEMANTICAC_ARM64_INSIDE=1 exec unshare --mount --propagation private "$0" "$recording" ${bundle:+"$bundle"}
fi
scratch=$(mktemp -d)
root=${SEMANTICAC_ARM64_ROOT:-$scratch/root}
trap 'umount -R "$root/proc" 2>/dev/null || true; rm -rf --one-file-system "$scratch"' EXIT
inside() { chroot "$root" /usr/bin/env -i PATH=/venv/bin:/usr/bin:/bin HOME=/root LANG=C.UTF-8 "$@"; }
step() { printf '\n$ %s\n' "$*"; }
TIMEFORMAT='(%1R s)'

mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
[ -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ] ||
  cat /usr/lib/binfmt.d/qemu-aarch64.conf >/proc/sys/fs/binfmt_misc/register

if [ ! -x "$root/venv/bin/python" ]; then
  debootstrap --arch=arm64 --foreign --variant=minbase \
    --include=ca-certificates,libportaudio2,python3,python3-venv bookworm "$root" >"$scratch/log"
  chroot "$root" /debootstrap/debootstrap --second-stage >>"$scratch/log"
  inside python3 -m venv /venv
fi
mount -t proc proc "$root/proc"
cp /etc/resolv.conf "$root/etc/"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/" # may include the certificate of a proxy
[ ! -f /etc/pip.conf ] || cp /etc/pip.conf "$root/etc/"
cp "$recording" ${bundle:+"$bundle"} "$root/root/"

python3 -m pip wheel -q --no-deps -w "$scratch" .
cp "$scratch"/semanticac_keras-*.whl "$root/root/"
wheel=/root/$(basename "$scratch"/semanticac_keras-*.whl)

step "uname -m; python3 --version"
inside sh -c 'uname -m; python3 --version; . /etc/os-release; echo "$PRETTY_NAME"'
step "pip install --only-binary=:all: '$wheel[device]'"
time inside pip install -q --force-reinstall --only-binary=:all: "$wheel[device]"
inside pip list --format=freeze | grep -iE '^(ai-edge-litert|numpy|semanticac-keras|sound|soxr)'
step "semanticac-edge --list-devices"
time inside semanticac-edge --list-devices
options=(--file "/root/$(basename "$recording")")
[ -z "$bundle" ] || options+=(--model "/root/$(basename "$bundle")")
step "semanticac-edge ${options[*]}"
time inside semanticac-edge "${options[@]}"
