#!/usr/bin/env bash
# Builds this version and the one ahead (feature `next`), and takes a cluster of real processes from one to the other:
# up, back, up again and finalized, under load; see docs/CAMPAIGNS.md.
#
# Arguments are those of `rebound campaign upgrade`.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/other_build.sh"
other_build next
"$release/rebound" campaign upgrade --next "$other/rebound" "$@"
