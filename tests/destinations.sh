#!/usr/bin/env bash
# Sends records set aside to a queue, a topic and a bucket; reads ranges of two streams, and exports
# and archives in buckets.
#
# ministack plays SQS, SNS and S3; kinesis-local Kinesis; AWS's own DynamoDB Local the table
# and its stream. None of them ever trims a stream: what is lost is shown by positions and
# shards that are not there, and by script in src/park/fetch/tests.rs. Further arguments go
# to the test program, e.g. `tests/destinations.sh --nocapture`.
source "$(dirname "$0")/servers/servers.sh"

install_python_tools
install_dynamodb_local
install_kinesis_local
start_ministack
start_dynamodb_local
start_kinesis_local

cd "$ROOT"
output=$SERVER_LOGS/cargo-test.out
CHANGEFOLD_TEST_MINISTACK=$MINISTACK_URL \
    CHANGEFOLD_TEST_DYNAMODB_STREAMS=$DYNAMODB_LOCAL_URL \
    CHANGEFOLD_TEST_KINESIS=$KINESIS_LOCAL_URL \
    cargo test --locked --all-features --test it destinations:: -- "$@" | tee "$output"
# A filter that matches nothing passes as well; that must not look like success.
grep -Eq '^test result: ok\. [1-9][0-9]* passed' "$output" || die "no test was run"
