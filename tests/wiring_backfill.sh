#!/usr/bin/env bash
# Deploys infra/template.yaml to ministack with a bootstrap that backfills, and has a table
# backfilled by a chain and by the state machine: tests/wiring/backfill.py.
#
#   tests/wiring_backfill.sh [PROFILE]         # dev unless named
#   PACKAGE=DIR tests/wiring_backfill.sh       # a directory with bootstrap and views/
source "$(dirname "$0")/servers/servers.sh"

install_python_tools
if [[ -z ${PACKAGE:-} ]]; then
    "$ROOT/infra/package.sh" "${1:-dev}" lambda,backfill
    PACKAGE=$ROOT/target/package
fi
start_ministack
"$PYTHON" "$ROOT/tests/wiring/backfill.py" "$MINISTACK_URL" "$PACKAGE"
