#!/usr/bin/env bash
# Runs the ledger's conditions against AWS's own DynamoDB Local.
#
# The other tests talk to an embedded store, which could share a wrong belief with us. This
# one is the only DynamoDB that AWS wrote and that runs offline. Further arguments go to the
# test program, e.g. `tests/dynamodb_local.sh --nocapture`.
source "$(dirname "$0")/servers/servers.sh"

install_dynamodb_local
start_dynamodb_local

cd "$ROOT"
output=$SERVER_LOGS/cargo-test.out
CHANGEFOLD_TEST_DYNAMODB_LOCAL=$DYNAMODB_LOCAL_URL \
    cargo test --locked --all-features --test it dynamodb_local -- "$@" | tee "$output"
# A filter that matches nothing passes as well; that must not look like success.
grep -Eq '^test result: ok\. [1-9][0-9]* passed' "$output" || die "no test was run"
