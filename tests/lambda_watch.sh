#!/usr/bin/env bash
# Runs the real bootstrap under `cargo lambda watch` and invokes it with a Kinesis event of two
# records, the second one broken. The answer must name exactly that record, and the first one
# must have reached its view, in AWS's own DynamoDB Local.
source "$(dirname "$0")/servers/servers.sh"

EVENT=$ROOT/tests/wiring/second_record_broken.json
WANTED='{"batchItemFailures":[{"itemIdentifier":"49672254917897065254609351634901122254775355868249587714"}]}'

install_python_tools
install_dynamodb_local
start_dynamodb_local
"$PYTHON" "$ROOT/tests/wiring/tables.py" "$DYNAMODB_LOCAL_URL"

cd "$ROOT"
bootstrap=(--no-default-features --features lambda --bin bootstrap)
# `watch` starts the program with `cargo run`; built before, its first answer is quick.
cargo build --locked "${bootstrap[@]}"

export CHANGEFOLD_VIEWS=$ROOT/views CHANGEFOLD_LEDGER_TABLE=Ledger
export CHANGEFOLD_VIEW_TABLE_PREFIX=changefold- CHANGEFOLD_ORDER=key CHANGEFOLD_CONCURRENCY=16
port=$(free_port)
# By default it listens on every interface; the short `-a` is taken for something else.
address=(--invoke-address 127.0.0.1 --invoke-port "$port")
AWS_ENDPOINT_URL=$DYNAMODB_LOCAL_URL start_server cargo-lambda-watch "$port" \
    "$VENV/bin/cargo-lambda" lambda watch --ignore-changes "${address[@]}" "${bootstrap[@]}"

answer=$("$VENV/bin/cargo-lambda" lambda invoke "${address[@]}" --data-file "$EVENT" bootstrap)
[[ $answer == "$WANTED" ]] || die "the answer is $answer
wanted    $WANTED"

rows=$("$PYTHON" - "$DYNAMODB_LOCAL_URL" <<'PYTHON'
import sys, boto3
client = boto3.client("dynamodb", endpoint_url=sys.argv[1])
print(client.scan(TableName="changefold-pages", Select="COUNT")["Count"])
PYTHON
)
[[ $rows == 1 ]] || die "the first record did not reach its view: it has $rows rows, not 1"
echo "answered $answer"
