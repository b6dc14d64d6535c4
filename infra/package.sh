#!/usr/bin/env bash
# Builds what Lambda runs and lays it out as the template's CodeUri expects it:
# target/package/ with bootstrap and views/ beside it.
#
#   infra/package.sh [PROFILE [FEATURES]]
#
# The profile shipped is `lambda`, the feature as well, unless others are named; a function that
# sends parked records away or takes back what Lambda gave up needs `lambda,destinations`, and one
# whose views are backfilled, verified or repaired needs `lambda,backfill`.
set -euo pipefail
cd "$(git -C "$(dirname "$0")" rev-parse --show-toplevel)"
profile=${1:-lambda}
features=${2:-lambda}

cargo build --locked --profile "$profile" --no-default-features --features "$features" --bin bootstrap
[[ $profile == dev ]] && built=debug || built=$profile
rm -rf target/package
mkdir -p target/package
cp "${CARGO_TARGET_DIR:-target}/$built/bootstrap" target/package/
cp -r views target/package/
du -h target/package/bootstrap >&2
infra/glibc.sh target/package/bootstrap >&2
