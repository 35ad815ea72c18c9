# For scripts beside this one that need a build with another feature: `source` it, then `other_build FEATURE`.
# Cargo puts both builds in one place, so the other one is copied aside, to the folder `$other`, and the usual one put
# back into `$release`, also when the script is interrupted. Runs in the project's root from then on.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
release="${CARGO_TARGET_DIR:-target}/release"
other="$(mktemp -d)"

# What both builds have in common is compiled once, and the usual binaries are still there under their own hash.
usual_build() { cargo build --release --locked --workspace --bins --quiet; }
trap 'usual_build; rm -rf "$other"' EXIT

other_build() {
  cargo build --release --locked --workspace --bins --features "rebound/$1"
  cp "$release/rebound" "$release/rebound-agent" "$other/"
  usual_build
}
