#!/usr/bin/env bash
# Builds this version and the one ahead (feature `next`), and takes a cluster of real processes from one to the other:
# up, back, up again and finalized, under load; see docs/CAMPAIGNS.md. Cargo puts both builds in one place, so the newer
# one is copied aside and this one put back, also when this is interrupted.
#
# Arguments are those of `rebound campaign upgrade`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
release="${CARGO_TARGET_DIR:-target}/release"
next="$(mktemp -d)"
# What both builds have in common is compiled once, and this version's binaries are still there under their own hash.
this() { cargo build --release --locked --workspace --bins --quiet; }
trap 'this; rm -rf "$next"' EXIT
cargo build --release --locked --workspace --bins --features rebound/next
cp "$release/rebound" "$release/rebound-agent" "$next/"
this
"$release/rebound" campaign upgrade --next "$next/rebound" "$@"
