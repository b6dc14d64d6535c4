#!/usr/bin/env bash
# The pages of `replay --report` and `dev` in headless Chromium: what they draw, by keyboard alone,
# in light and dark, without a word on the console or a request elsewhere. Installs what it needs.
#
#   tests/page.sh          # screenshots are target/page/*.png
set -euo pipefail
cd "$(dirname "$0")/.."
readonly playwright=1.65.1

if ! command -v chromium >/dev/null; then
    as_root=()
    ((EUID == 0)) || as_root=(sudo)
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" apt-get install -y -qq --no-install-recommends chromium
fi
folder=target/page
mkdir -p "$folder"
if [[ ! -d $folder/node_modules/playwright-core ]]; then
    npm install --silent --no-audit --no-fund --prefix "$folder" "playwright-core@$playwright"
fi
# As the tests have it: by itself the program would be built with other features of the SDK.
cargo test --quiet --locked --all-features --test it --no-run
program=${CARGO_TARGET_DIR:-target}/debug/changefold
# Faults fail batches, which are halved.
status=0
"$program" replay fixtures/flights-600.jsonl.gz --views views/flights.sql --faults 7 \
    --report "$folder/report.html" >/dev/null || status=$?
((status == 0 || status == 3)) || exit "$status"
node tests/page/report.mjs "$folder" "$folder/report.html" "$folder/report.png"
node tests/page/live.mjs "$folder" "$program" "$folder/live.png"
