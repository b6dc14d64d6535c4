#!/usr/bin/env bash
# The desk's endpoint under clients and beside a server that others wrote.
#
# boto3 writes 10,000 records and items and reads them back, while the stream splits, merges and
# scales. The JavaScript client writes over HTTP/2. Then the same requests go to the desk's
# Kinesis and to kinesis-local, and their answers must have the same members.
source "$(dirname "$0")/servers/servers.sh"

install_python_tools
install_kinesis_local
install_javascript_clients

cd "$ROOT"
cargo build --locked --all-features --example crashing
start_endpoint "${CARGO_TARGET_DIR:-target}/debug/examples/crashing"
start_kinesis_local

"$PYTHON" tests/endpoint/desk.py "$ENDPOINT_URL"
"$PYTHON" tests/endpoint/compare.py "$ENDPOINT_URL" "$KINESIS_LOCAL_URL"
node tests/endpoint/javascript/desk.mjs "$ENDPOINT_URL"
