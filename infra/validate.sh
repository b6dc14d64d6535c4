#!/usr/bin/env bash
# Checks infra/template.yaml and infra/backfill.asl.json: see infra/validate.py for what and how.
source "$(dirname "$0")/../tests/servers/servers.sh"
install_python_tools
install_asl_validator
"$PYTHON" "$ROOT/infra/validate.py"
