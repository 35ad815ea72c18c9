#!/usr/bin/env bash
# Brings what the project needs onto a Debian or Ubuntu machine. Every part may be run again: what is there stays.
#
#   deploy/setup.sh system           packages to build and run (as root installs them, else prints the command)
#   deploy/setup.sh campaigns        tools of the campaigns that break networks, disks and clocks; as root only
#   deploy/setup.sh runtime          ONNX Runtime's shared library, for the agent's recognisers
#   deploy/setup.sh models           the models of the recogniser shelf-text
#   deploy/setup.sh python [--ocr]   Python with ONNX Runtime for the reference scripts; prints its path last
#   deploy/setup.sh all              system, runtime and models
#
# All but `system` and `campaigns` write only to ${XDG_CACHE_HOME:-~/.cache}/rebound and to agent/recognisers/shelf-text.
set -euo pipefail

readonly RUNTIME_VERSION=1.31.1
readonly OCR_VERSION=1.4.4
# The wheel's Python tag does not matter for the library inside it; this one exists for each version used here.
readonly WHEEL_PYTHON=3.11

readonly HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
readonly CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/rebound"
readonly VENV="$CACHE/python"
readonly RUNTIME_DIR="$CACHE/onnxruntime"
readonly SHELF_TEXT="$HERE/agent/recognisers/shelf-text"

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# Removed at the end, whatever happens.
work=""
cleanup() { [ -z "$work" ] || rm -rf -- "$work"; }
trap cleanup EXIT

# ---- system packages ------------------------------------------------------------------------------------------------

# bindgen needs libclang and clang's own headers (stddef.h).
have_libclang() {
  compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null || compgen -G '/usr/lib/*/libclang*.so*' >/dev/null || return 1
  compgen -G '/usr/lib/llvm-*/lib/clang/*/include/stddef.h' >/dev/null || compgen -G '/usr/lib/clang/*/include/stddef.h' >/dev/null
}

have_python() { command -v python3 >/dev/null && python3 -c 'import ensurepip, venv, zipfile' 2>/dev/null; }

missing_packages() {
  command -v g++ >/dev/null || echo g++
  command -v make >/dev/null || echo make
  have_libclang || echo libclang-dev
  have_python || { echo python3; echo python3-venv; }
}

# Installs the packages named, or says how.
install_packages() {
  [ $# -gt 0 ] || return 0
  command -v apt-get >/dev/null ||
    fail "needed and not here: $*. This machine has no apt-get: install them with its own package tool"
  local install="apt-get install -y --no-install-recommends $*"
  if [ "$(id -u)" != 0 ]; then
    fail "needed and not here: $*. Run:  sudo apt-get update && sudo $install"
  fi
  say "installing $* (one to two minutes)"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive $install -qq >/dev/null
}

missing_tools() {
  command -v ip >/dev/null || echo iproute2
  command -v iptables >/dev/null || echo iptables
  command -v sysctl >/dev/null || echo procps
  command -v mkfs.ext4 >/dev/null || echo e2fsprogs
  command -v losetup >/dev/null || echo mount
  command -v faketime >/dev/null || echo faketime
}

# Whoever is not root is told by the campaign itself what it skips.
setup_campaigns() {
  [ "$(id -u)" = 0 ] || return 0
  local missing
  mapfile -t missing < <(missing_tools)
  install_packages "${missing[@]}"
}

setup_system() {
  local missing
  mapfile -t missing < <(missing_packages)
  install_packages "${missing[@]}"
  if ! command -v cargo >/dev/null && [ ! -x "$HOME/.cargo/bin/cargo" ]; then
    fail "cargo is not here: install Rust 1.95 or newer (rustup), then run this again"
  fi
}

# ---- Python ---------------------------------------------------------------------------------------------------------

# A Python environment of our own: the system's refuses installs, and its pip may be absent.
ensure_venv() {
  if [ -x "$VENV/bin/pip" ] && "$VENV/bin/python" -c '' 2>/dev/null; then return; fi
  have_python || fail "Python with venv is not here: run 'deploy/setup.sh system' first (package python3-venv)"
  say "making a Python environment in $VENV (5 seconds)"
  mkdir -p "$CACHE"
  rm -rf -- "$VENV"
  python3 -m venv "$VENV"
}

# download NAME VERSION: leaves the unpacked wheel in $work/NAME.
download() {
  local name="$1" version="$2" machine
  machine="$(uname -m)"
  work="${work:-$(mktemp -d)}"
  "$VENV/bin/pip" download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --python-version "$WHEEL_PYTHON" --platform "manylinux_2_28_$machine" --platform "manylinux_2_27_$machine" \
    --dest "$work/wheels-$name" "$name==$version" ||
    fail "the package $name $version could not be fetched for $machine: see pip's message above"
  "$VENV/bin/python" -m zipfile -e "$work/wheels-$name/"*.whl "$work/$name"
}

setup_python() {
  local wanted="$HERE/tests/reference/requirements.txt" stamp="$VENV/.requirements"
  [ "${1:-}" != --ocr ] || { wanted="$HERE/tests/reference/requirements-ocr.txt"; stamp="$VENV/.requirements-ocr"; }
  ensure_venv
  if ! cmp -s "$wanted" "$stamp"; then
    say "installing $(basename "$wanted") into $VENV (half a minute)"
    "$VENV/bin/pip" install --quiet --disable-pip-version-check -r "$wanted"
    cp -- "$wanted" "$stamp"
  fi
  echo "$VENV/bin/python"
}

# ---- ONNX Runtime ---------------------------------------------------------------------------------------------------

setup_runtime() {
  local file="libonnxruntime.so.$RUNTIME_VERSION"
  if [ -f "$RUNTIME_DIR/$file" ] && [ "$(readlink "$RUNTIME_DIR/libonnxruntime.so" || true)" = "$file" ]; then return; fi
  ensure_venv
  say "fetching ONNX Runtime $RUNTIME_VERSION (24 MB, a few seconds)"
  download onnxruntime "$RUNTIME_VERSION"
  mkdir -p "$RUNTIME_DIR"
  # Written beside and moved in, so that no process ever loads half a library.
  cp -- "$work/onnxruntime/onnxruntime/capi/$file" "$RUNTIME_DIR/$file.part"
  mv -f -- "$RUNTIME_DIR/$file.part" "$RUNTIME_DIR/$file"
  cp -- "$work/onnxruntime/onnxruntime/LICENSE" "$work/onnxruntime/onnxruntime/ThirdPartyNotices.txt" "$RUNTIME_DIR/"
  ln -sfn "$file" "$RUNTIME_DIR/libonnxruntime.so"
  say "ONNX Runtime is in $RUNTIME_DIR"
}

# ---- models ---------------------------------------------------------------------------------------------------------

# FILE NAME-IN-THE-WHEEL, one a line. Their digests are in the recogniser's manifest.
readonly SHELF_TEXT_MODELS="det.onnx ch_PP-OCRv4_det_infer.onnx
rec.onnx ch_PP-OCRv4_rec_infer.onnx"

manifest_sha256() {
  # The digest is on the line after the file's name in the manifest.
  sed -n "/^name *= *\"$1\"/,/^sha256/s/^sha256 *= *\"\([0-9a-f]*\)\".*/\1/p" "$SHELF_TEXT/manifest.toml"
}

model_is_right() {
  [ -f "$SHELF_TEXT/$1" ] && echo "$(manifest_sha256 "$1")  $SHELF_TEXT/$1" | sha256sum --check --status 2>/dev/null
}

setup_models() {
  local file origin absent=0
  while read -r file _; do model_is_right "$file" || absent=1; done <<<"$SHELF_TEXT_MODELS"
  [ "$absent" = 1 ] || return 0
  ensure_venv
  say "fetching the models of shelf-text (15 MB, a few seconds)"
  download rapidocr-onnxruntime "$OCR_VERSION"
  while read -r file origin; do
    cp -- "$work/rapidocr-onnxruntime/rapidocr_onnxruntime/models/$origin" "$SHELF_TEXT/$file.part"
    mv -f -- "$SHELF_TEXT/$file.part" "$SHELF_TEXT/$file"
    model_is_right "$file" || fail "$SHELF_TEXT/$file is not the file that the manifest names (its sha256 differs)"
  done <<<"$SHELF_TEXT_MODELS"
  say "the models of shelf-text are in $SHELF_TEXT"
}

# ---- which ----------------------------------------------------------------------------------------------------------

case "${1:-}" in
  system) setup_system ;;
  campaigns) setup_campaigns ;;
  runtime) setup_runtime ;;
  models) setup_models ;;
  python) setup_python "${2:-}" ;;
  all) setup_system; setup_runtime; setup_models ;;
  *) sed -n '2,/^set /s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
