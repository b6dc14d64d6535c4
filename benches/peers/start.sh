#!/bin/sh
# Builds the stock-SDK peer of the start row: benches/peers/stock, into the target directory.
set -eu
cd "$(dirname "$0")/stock"
target="${CARGO_TARGET_DIR:-$PWD/../../../target}"
CARGO_TARGET_DIR="$target/peers/stock" cargo build --release --locked
