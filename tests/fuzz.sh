#!/usr/bin/env bash
# Fuzzes the decoder: bytes of libFuzzer's making, held against the rules of
# tests/it/events/fuzzed.rs. An input that breaks one is left in tests/fuzz/artifacts/decode, and
# belongs into tests/fuzz/corpus/decode once the fault is mended: `cargo test` runs that.
#
#   tests/fuzz.sh            # ten minutes
#   tests/fuzz.sh 60         # a minute
#   SANITIZER=none tests/fuzz.sh   # without AddressSanitizer: twice as fast
#
# Needs nightly Rust (`rustup toolchain install nightly`) and a C++ compiler. cargo-fuzz and all
# that is built lands in cargo's target directory, what is found on the way as well.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-600}
target=${CARGO_TARGET_DIR:-$PWD/target}
[[ $target == /* ]] || target=$PWD/$target
version=0.13.2

tools=$target/fuzz
if [[ $("$tools/bin/cargo-fuzz" --version 2>/dev/null) != "cargo-fuzz $version" ]]; then
    CARGO_TARGET_DIR=$tools/build cargo +nightly install --locked --quiet --root "$tools" \
        --version "$version" cargo-fuzz
fi
mkdir -p "$tools/corpus"
# libFuzzer writes what it finds into the first directory, and reads both.
unset CARGO_TARGET_DIR
PATH=$tools/bin:$PATH cargo +nightly fuzz run --fuzz-dir tests/fuzz --target-dir "$tools/target" \
    --sanitizer "${SANITIZER:-address}" decode "$tools/corpus" tests/fuzz/corpus/decode -- \
    -max_total_time="$seconds" -max_len=4096 -timeout=20 -dict=tests/fuzz/decode.dict
