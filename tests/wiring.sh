#!/usr/bin/env bash
# Deploys infra/template.yaml to ministack with the real bootstrap, writes to both sources
# and sees the views follow. What it shows and what it does not: tests/wiring/wiring.py.
#
#   tests/wiring.sh [PROFILE]         # dev unless named; CI's is whatever .ci/run says
#   PACKAGE=DIR tests/wiring.sh       # a directory with bootstrap and views/, already built
source "$(dirname "$0")/servers/servers.sh"

install_python_tools
if [[ -z ${PACKAGE:-} ]]; then
    "$ROOT/infra/package.sh" "${1:-dev}"
    PACKAGE=$ROOT/target/package
fi
start_ministack
"$PYTHON" "$ROOT/tests/wiring/wiring.py" "$MINISTACK_URL" "$PACKAGE"
