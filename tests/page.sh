#!/usr/bin/env bash
# The pages of `replay --report` and `dev` in headless Chromium: what they draw, by keyboard alone,
# in light and dark, without a word on the console or a request elsewhere; and what one can do from
# the page of `dev`, also with a function in Python. Installs what it needs.
#
#   tests/page.sh          # screenshots are target/page/*.png
source "$(dirname "$0")/servers/servers.sh"
cd "$ROOT"
readonly playwright=1.65.1

install_python_tools
if ! command -v chromium >/dev/null; then
    apt_install chromium
fi
folder=target/page
mkdir -p "$folder"
if [[ ! -d $folder/node_modules/playwright-core ]]; then
    npm install --silent --no-audit --no-fund --prefix "$folder" "playwright-core@$playwright"
fi
# As the tests have it: by itself the program would be built with other features of the SDK.
cargo test --quiet --locked --all-features --test it --no-run
cargo build --quiet --locked --all-features --example orders
program=${CARGO_TARGET_DIR:-target}/debug/changefold
orders=${CARGO_TARGET_DIR:-target}/debug/examples/orders
# Faults fail batches, which are halved.
status=0
"$program" replay fixtures/flights-600.jsonl.gz --views views/flights.sql --faults 7 \
    --report "$folder/report.html" >/dev/null || status=$?
((status == 0 || status == 3)) || exit "$status"
node tests/page/report.mjs "$folder" "$folder/report.html" "$folder/report.png"
node tests/page/live.mjs "$folder" "$program" "$folder/live.png"
node tests/page/actions.mjs "$folder" "$program" "$orders" "$PYTHON" "$folder"
