#!/usr/bin/env bash
# Builds with the planted bugs and shows that they are found: each of them by the simulator, one of them by the auditor
# of a real cluster too, one by a loss of power.
#
# SEEDS=200 bounds the seeds for each bug.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/other_build.sh"
other_build planted
failed=0

echo "simulator: the seeds it takes to find each planted bug"
"$other/rebound" sim hunt --seeds "${SEEDS:-200}" || failed=1

echo
echo "auditor: a worker's late results on a cluster with the bug no-fence-check"
"$other/rebound" dev --plant no-fence-check --recogniser grocery81 --burst 600 \
  --recognisers agent/recognisers --kill-leader 30 --kill-worker 40 -o json >"$other/dev.json" 2>"$other/dev.log" || true
python3 - "$other/dev.json" <<'P' || failed=1
import json, sys
figures = json.load(open(sys.argv[1]))
if figures.get("recorded_twice", 0) < 1:
    sys.exit(f"  NOT FOUND: {figures}")
print(f"  found: recorded_twice {figures['recorded_twice']}; {figures['audit']['findings'][0]}")
P

echo
echo "loss of power on all disks at once: servers that acknowledge before they sync (bug ack-before-fsync)"
power() {
  "$other/rebound" campaign power-cut --plant ack-before-fsync --images 0 --all 3 \
    -o json >"$other/power.json" 2>"$other/power.log"
}
if power; then
  # Without root or a tool it is skipped and says why.
  sed -n 's/.*"skipped": *"\([^"]*\)".*/  skipped: \1/p' "$other/power.json" | grep . ||
    { echo "  NOT FOUND: nothing was lost"; failed=1; }
else
  # A promise broken by one disk is not enough: what clients were told must be gone.
  sed -n 's/^broken: \(.*acknowledged jobs are gone.*\)/  found: \1/p' "$other/power.log" | head -1 | grep . ||
    { echo "  NOT FOUND: the campaign failed, but no acknowledged job is gone"; tail -3 "$other/power.log"; failed=1; }
fi
exit "$failed"
