#!/usr/bin/env bash
# Builds what Lambda runs and lays it out as the template's CodeUri expects it:
# target/package/ with bootstrap and views/ beside it.
#
#   infra/package.sh [PROFILE]      # the profile shipped, `lambda`, unless another is named
set -euo pipefail
cd "$(git -C "$(dirname "$0")" rev-parse --show-toplevel)"
profile=${1:-lambda}

cargo build --locked --profile "$profile" --no-default-features --features lambda --bin bootstrap
[[ $profile == dev ]] && built=debug || built=$profile
rm -rf target/package
mkdir -p target/package
cp "${CARGO_TARGET_DIR:-target}/$built/bootstrap" target/package/
cp -r views target/package/
du -h target/package/bootstrap >&2
