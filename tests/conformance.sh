#!/usr/bin/env bash
# What ministack makes of the event source mapping, by `changefold conformance`.
#
# The table in docs/fidelity.md has to be the one that comes out: when a new ministack does
# better, it is written anew (`tests/conformance.sh --write`).
source "$(dirname "$0")/servers/servers.sh"

install_python_tools

cd "$ROOT"
cargo test --quiet --locked --all-features --test it --no-run
start_ministack
program=${CARGO_TARGET_DIR:-target}/debug/changefold
rows=$SERVER_LOGS/rows.json
status=0
"$program" conformance run --endpoint-url "$MINISTACK_URL" --format json >"$rows" || status=$?
# 1 says that some cases differ, which the table tells.
((status <= 1)) || die "the cases were not run"
"$PYTHON" tests/conformance/table.py "$rows" docs/fidelity.md "$@"
