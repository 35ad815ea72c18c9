#!/usr/bin/env bash
# Builds with the planted bug `no-fence-check` and shows that the simulator and the auditor find it. The good binaries
# are built again at the end, since cargo puts both in one place.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
release="${CARGO_TARGET_DIR:-target}/release"
planted="$(mktemp -d)"
trap 'rm -rf "$planted"' EXIT
cargo build --release --locked --workspace --bins --features rebound/planted
cp "$release/rebound" "$release/rebound-agent" "$planted/"
cargo build --release --locked --workspace --bins
failed=0

echo "simulator: seeds until the bug is found"
if "$planted/rebound" sim fuzz --seeds 200 --plant no-fence-check -o json >"$planted/sim.json" 2>/dev/null; then
  echo "  NOT FOUND in 200 seeds" >&2; failed=1
else
  python3 - "$planted/sim.json" <<'P' || failed=1
import json, sys
failed = json.load(open(sys.argv[1]))["failed"]
if not failed:
    sys.exit("  NOT FOUND: the run failed for another reason")
print(f"  found by seed {failed[0]['seed']}, {len(failed)} of 200 seeds: {failed[0]['violations'][0]}")
P
fi

echo "auditor: a worker's late results on a cluster with the bug"
"$planted/rebound" dev --plant no-fence-check --recogniser grocery81 --burst 600 \
  --recognisers agent/recognisers --kill-leader 30 --kill-worker 40 -o json >"$planted/dev.json" 2>"$planted/dev.log" || true
python3 - "$planted/dev.json" <<'P' || failed=1
import json, sys
figures = json.load(open(sys.argv[1]))
if figures.get("recorded_twice", 0) < 1:
    sys.exit(f"  NOT FOUND: {figures}")
print(f"  found: recorded_twice {figures['recorded_twice']}; {figures['audit']['findings'][0]}")
P
exit "$failed"
