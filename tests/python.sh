#!/usr/bin/env bash
# The desk drives a Python function: AWS's own runtime (awslambdaric) and Powertools, from PyPI.
#
# One record in a hundred is poison. Behind the Runtime API and behind the Invoke API, with partial
# replies and without, the calls have to be those that `simulate` tells, and the on-failure record
# has to name the poison alone. What is compared: tests/python/desk.py.
source "$(dirname "$0")/servers/servers.sh"

install_python_tools

cd "$ROOT"
# As the tests build it, so that nothing is compiled twice.
cargo test --quiet --locked --all-features --test it --no-run
"$PYTHON" tests/python/desk.py "${CARGO_TARGET_DIR:-target}/debug/changefold"
