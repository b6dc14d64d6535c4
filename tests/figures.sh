#!/usr/bin/env bash
# Prints what a poison record, a crash and a kill cost, as Markdown tables: the figures that
# tests/it/figures/ asserts. They are of a debug build; only times would differ.
#
#   tests/figures.sh              # all of them, with 200 kills
#   DESK_TEST_KILLS=1000 tests/figures.sh kills
#   tests/figures.sh backfill     # units of 1,000 items that a table has already
#   tests/figures.sh values       # units of 1,000 changes with min, max and DISTINCT
#   tests/figures.sh memory       # of a backfill of 200,000 and of 1,000,000 items; minutes
#   tests/figures.sh dev          # the live desk: from a put to its row, records a second, memory
#   tests/figures.sh mapping      # the mapping by itself, and filters; of a debug build
#   PROFILE=release tests/figures.sh mapping
#   tests/figures.sh scale        # 1,000 shards against DynamoDB's limits of one item; minutes
set -euo pipefail
cd "$(dirname "$0")/.."

cargo=(cargo test --locked --all-features --profile "${PROFILE:-dev}")
# A test of one name alone would not build what it starts.
cargo build --locked --all-features --profile "${PROFILE:-dev}" --examples --bins
ignored=()
[[ ${1-} == @(mapping|memory|scale|dev)* ]] && ignored=(--include-ignored)
if ! output=$("${cargo[@]}" --test it "figures::${1-}" -- --nocapture --test-threads=1 \
    "${ignored[@]}" 2>&1); then
    printf '%s\n' "$output" >&2
    exit 1
fi
# Each table ends before the verdict of its test.
tables=$(sed -n '/^| /p; /^test .*\.\.\. $/s/.*//p' <<<"$output")
[[ $tables == *'| '* ]] || { echo "error: no figure is called ${1-}" >&2; exit 2; }
printf '%s\n' "$tables"
