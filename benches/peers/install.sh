#!/usr/bin/env bash
# Installs what `cargo bench --bench ratios -- whole` drives: our function and, pinned, the same
# function as people write it today. All of it goes into the cargo target directory's `peers`;
# what is there already and unchanged is left alone.
#
#   benches/peers/install.sh              # ours as it ships: the profile `lambda`, minutes
#   PROFILE=release benches/peers/install.sh   # for trials; versions.json says so
#
# Needs Rust, Node 20 or later with npm, CPython 3.11 or later with venv, and their registries.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-$PWD/target}
[[ $target == /* ]] || target=$PWD/$target
export CARGO_TARGET_DIR=$target
profile=${PROFILE:-lambda}
here=benches/peers
peers=$target/peers
mkdir -p "$peers/bin"

say() { printf '%s\n' "$*" >&2; }

# unchanged DIR FILE… — whether DIR was installed from these very files.
unchanged() { [[ -f $1/stamp && $(cat "${@:2}" | sha256sum) == "$(<"$1/stamp")" ]]; }
# installed DIR FILE… — notes it, when all else has worked.
installed() { cat "${@:2}" | sha256sum >"$1/stamp"; }

say "rust: lambda_runtime, aws_lambda_events, serde_dynamo"
CARGO_TARGET_DIR=$peers/rust cargo build --release --locked --manifest-path "$here/rust/Cargo.toml"
install "$peers/rust/release/bare" "$peers/bin/bare"

say "node: @aws-lambda-powertools/batch, @aws-sdk/util-dynamodb"
mkdir -p "$peers/node"
packages=("$here/node/package.json" "$here/node/package-lock.json")
if ! unchanged "$peers/node" "${packages[@]}"; then
    cp "${packages[@]}" "$peers/node"
    npm ci --prefix "$peers/node" --ignore-scripts --no-audit --no-fund --loglevel=error
    installed "$peers/node" "${packages[@]}"
fi
cp "$here"/node/*.mjs "$peers/node"

say "python: aws-lambda-powertools, awslambdaric"
mkdir -p "$peers/python"
if ! unchanged "$peers/python" "$here/python/requirements.txt"; then
    rm -rf "$peers/python/venv"
    python3 -m venv "$peers/python/venv"
    "$peers/python/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps \
        --only-binary :all: --require-hashes -r "$here/python/requirements.txt"
    installed "$peers/python" "$here/python/requirements.txt"
fi
cp "$here/python/function.py" "$peers/python"

if [[ -x $here/start.sh ]]; then
    say "what the start-up is measured against"
    "$here/start.sh"
fi

say "ours: the profile $profile, as it ships and as an example"
# In two commands: what the example's development dependencies ask of others must not ship.
cargo build --locked --profile "$profile" --no-default-features --features lambda --bin bootstrap
cargo build --locked --profile "$profile" --no-default-features --features lambda --example ours
install "$target/$profile/examples/ours" "$peers/bin/ours"

# crate FILE NAME — its version in a Cargo.lock.
crate() { sed -n "/^name = \"$2\"\$/{n;s/version = //p}" "$1"; }
# package NAME — its version in node_modules.
package() { node -p "JSON.stringify(require('$peers/node/node_modules/$1/package.json').version)"; }
# module NAME — its version in the virtual environment.
module() { "$peers/python/venv/bin/python" -c "
import importlib.metadata as it, json; print(json.dumps(it.version('$1')))"; }
bare_lock=$here/rust/Cargo.lock
rustc=$(rustc --version) # of this directory's toolchain file
commit=$(git describe --always --dirty 2>/dev/null || echo unknown)
cat >"$peers/versions.json" <<JSON
{
  "changefold": $(crate Cargo.lock changefold),
  "commit": "$commit",
  "profile": "$profile",
  "rustc": "${rustc%% (*}",
  "lambda_runtime": $(crate "$bare_lock" lambda_runtime),
  "aws_lambda_events": $(crate "$bare_lock" aws_lambda_events),
  "serde_dynamo": $(crate "$bare_lock" serde_dynamo),
  "node": "$(node --version)",
  "@aws-lambda-powertools/batch": $(package @aws-lambda-powertools/batch),
  "@aws-sdk/util-dynamodb": $(package @aws-sdk/util-dynamodb),
  "python": "$("$peers/python/venv/bin/python" -c 'import platform; print(platform.python_version())')",
  "aws-lambda-powertools": $(module aws-lambda-powertools),
  "awslambdaric": $(module awslambdaric)
}
JSON
say "installed, as $peers/versions.json has it:"
cat "$peers/versions.json"
