#!/usr/bin/env bash
# Has a table of 50,000 items backfilled by links of five seconds, which takes a minute, and
# plays three large backfills beside the stream: 200,000 items in 8 segments, 20,000 changes, and
# everything that can go wrong (tests/it/backfill). It takes minutes. SIM_SEED=1 plays one of them.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo test --locked --all-features --test it backfill::links -- --ignored --nocapture
exec cargo test --locked --all-features --test it backfill::large -- --ignored --nocapture
