#!/usr/bin/env bash
# Checks infra/template.yaml: see infra/validate.py for what and how.
source "$(dirname "$0")/../tests/servers/servers.sh"
install_python_tools
"$PYTHON" "$ROOT/infra/validate.py"
