#!/usr/bin/env bash
# The live desk, also against servers that we did not write, and killed two hundred times.
#
# AWS's own DynamoDB Local and kinesis-local are read and written as AWS would be, by the tests and by
# boto3 from another process; a function in Python runs behind the desk as on Lambda. Further
# arguments go to the test program, e.g. `tests/dev.sh --nocapture`.
source "$(dirname "$0")/servers/servers.sh"

install_python_tools
install_dynamodb_local
install_kinesis_local
start_dynamodb_local
start_kinesis_local

cd "$ROOT"
output=$SERVER_LOGS/cargo-test.out
CHANGEFOLD_TEST_DYNAMODB_STREAMS=$DYNAMODB_LOCAL_URL \
    CHANGEFOLD_TEST_KINESIS=$KINESIS_LOCAL_URL \
    cargo test --locked --all-features --test it dev:: -- --include-ignored --skip figures:: "$@" | tee "$output"
# A filter that matches nothing passes as well; that must not look like success.
grep -Eq '^test result: ok\. [1-9][0-9]* passed' "$output" || die "no test was run"

program=$(realpath "${CARGO_TARGET_DIR:-target}/debug/changefold")
"$PYTHON" tests/dev/ten_thousand.py "$program"
# The tests have left tables and streams in the servers that ran before.
start_dynamodb_local
start_kinesis_local
"$PYTHON" tests/dev/ten_thousand.py "$program" "$DYNAMODB_LOCAL_URL" "$KINESIS_LOCAL_URL"
"$PYTHON" tests/dev/any_function.py "$program"
"$PYTHON" tests/dev/recorded.py "$program"
"$PYTHON" tests/dev/reload.py "$program"
