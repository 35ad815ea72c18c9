#!/usr/bin/env bash
# Builds with the planted bugs and shows that they are found: each of them by the simulator, one of them by the auditor
# of a real cluster too, one by a loss of power. Cargo puts planted and good binaries in one place, so the planted ones are copied aside and the
# good ones put back, also when this is interrupted.
#
# SEEDS=200 bounds the seeds for each bug.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
release="${CARGO_TARGET_DIR:-target}/release"
planted="$(mktemp -d)"
# What both builds have in common is compiled once, and the good binaries are still there under their own hash.
good() { cargo build --release --locked --workspace --bins --quiet; }
trap 'good; rm -rf "$planted"' EXIT
cargo build --release --locked --workspace --bins --features rebound/planted
cp "$release/rebound" "$release/rebound-agent" "$planted/"
good
failed=0

echo "simulator: the seeds it takes to find each planted bug"
"$planted/rebound" sim hunt --seeds "${SEEDS:-200}" || failed=1

echo
echo "auditor: a worker's late results on a cluster with the bug no-fence-check"
"$planted/rebound" dev --plant no-fence-check --recogniser grocery81 --burst 600 \
  --recognisers agent/recognisers --kill-leader 30 --kill-worker 40 -o json >"$planted/dev.json" 2>"$planted/dev.log" || true
python3 - "$planted/dev.json" <<'P' || failed=1
import json, sys
figures = json.load(open(sys.argv[1]))
if figures.get("recorded_twice", 0) < 1:
    sys.exit(f"  NOT FOUND: {figures}")
print(f"  found: recorded_twice {figures['recorded_twice']}; {figures['audit']['findings'][0]}")
P

echo
echo "loss of power: servers that acknowledge before they sync (bug ack-before-fsync)"
power() {
  "$planted/rebound" campaign power-cut --plant ack-before-fsync --images 10 --all 3 \
    -o json >/dev/null 2>"$planted/power.log"
}
if [ "$(id -u)" != 0 ]; then
  echo "  skipped: needs root, to take disks away"
elif power; then
  echo "  NOT FOUND: nothing was lost"
  failed=1
else
  sed -n 's/^broken: /  found: /p' "$planted/power.log" | head -1 | grep . ||
    { echo "  NOT FOUND: the campaign failed, but not over what was lost"; tail -3 "$planted/power.log"; failed=1; }
fi
exit "$failed"
