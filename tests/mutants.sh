#!/usr/bin/env bash
# Changes rebound-core a little, one change at a time, and looks whether its tests or the simulator's notice. What
# survives is told: each is either a missing test or a change that makes no difference.
#
#   SAMPLE=300   at least so many changes, spread over the whole core; SEED=1 says which
#   PARTS=4 PART=2   of that sample only the second of four parts, each spread over the whole core too: a sample takes hours
#   DIFF=main    instead: all changes to lines that differ from this revision
#   OUT=DIR      where the report goes; target/mutants by default
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
sample="${SAMPLE:-300}" seed="${SEED:-1}"
target="${CARGO_TARGET_DIR:-target}"
out="${OUT:-$target/mutants}"
mkdir -p "$out"
cargo mutants --version >/dev/null 2>&1 || cargo install cargo-mutants --locked --target-dir "$target/mutants-install"

# A copy of the tree with a target directory of its own: the good binaries stay as they are.
CARGO_TARGET_DIR="$(realpath "$out")/target"
# Compiling is most of the time: nobody debugs a mutant, and little is lost when its tests run a little slower.
export CARGO_TARGET_DIR CARGO_PROFILE_RELEASE_DEBUG=false CARGO_PROFILE_RELEASE_OPT_LEVEL=1
# A property that needs more histories than these to notice a change is helped by the simulator.
export PROPTEST_CASES="${PROPTEST_CASES:-500}"
which=(--package rebound-core)
if [ -n "${DIFF:-}" ]; then
  git diff "$DIFF" -- scheduler/core/src >"$out/changes.diff"
  which+=(--in-diff "$out/changes.diff")
else
  all="$(cargo mutants --list "${which[@]}" | wc -l)"
  parts=$((all / sample > 0 ? all / sample : 1))
  # Every so many parts of a sample another one: what is one part of `parts` is `PARTS` parts of `parts * PARTS`.
  pieces="${PARTS:-1}" piece="${PART:-1}"
  which+=(--shard "$((seed % parts + parts * (piece - 1)))/$((parts * pieces))" --sharding round-robin)
fi

report() {
  python3 tests/support/mutants.py "$out/core/mutants.out" "$out/sim/mutants.out" | tee "$out/report.txt"
}
trap report EXIT
rm -rf "$out/core" "$out/sim"

# Whose tests first, where the report goes, how many seconds they may take, and which changes.
hunt() {
  local tests="$1" seconds="$2"
  shift 2
  mkdir -p "$out/$tests"
  nice -n 19 cargo mutants "$@" --test-package "rebound-$tests" --jobs 1 --cargo-arg=--release --cargo-arg=--locked --cargo-test-arg=--tests \
    --timeout "$seconds" --output "$out/$tests" --colors never || [ $? -le 3 ]
}
# The core's own tests are quick and notice most; what they miss the simulator gets. A pattern would take in fields of
# structs whatever it says, so all others are said to be caught.
hunt core "${CORE_TIMEOUT:-60}" "${which[@]}"
missed="$out/core/mutants.out/missed.txt"
if [ -s "$missed" ]; then
  mkdir -p "$out/sim/mutants.out"
  cargo mutants --list --package rebound-core | grep -vxFf "$missed" >"$out/sim/mutants.out/caught.txt"
  hunt sim "${TIMEOUT:-300}" --package rebound-core --iterate
fi
