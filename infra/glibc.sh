#!/usr/bin/env bash
# Whether a program runs on Lambda: the image `provided.al2023` has glibc 2.34, and a program
# linked on a newer system may ask for a newer one, which shows at its first start only.
#
#   infra/glibc.sh FILE             # fails if FILE asks for more than 2.34
#   GLIBC=2.26 infra/glibc.sh FILE  # for another image (provided.al2)
#   infra/glibc.sh --check FILE     # also sees that the check itself can fail
#
# infra/package.sh asks it of what it packs. CI asks it of the build it makes for other steps
# (profile `dev`), so there it is the toolchain and the system that are checked.
# What it gives up: it reads symbol versions, so it says nothing about other libraries (the
# program links none but glibc's and libgcc).
set -euo pipefail
export LC_ALL=C
limit=${GLIBC:-2.34}

# The newest of the versions on stdin, numbers compared as numbers.
newest() { sort -V | tail -n 1; }

# needed FILE — the newest glibc that a program's symbols ask for; 0 if it links none.
needed() {
    local versions
    versions=$(readelf --version-info --wide "$1" 2>/dev/null) || return
    grep -o 'GLIBC_[0-9][0-9.]*' <<<"$versions" | sed 's/GLIBC_//' | newest || echo 0
}

# fits VERSION LIMIT — whether what asks for VERSION runs with LIMIT.
fits() { [[ $(printf '%s\n' "$1" "$2" | newest) == "$2" ]]; }

is_checked=
if [[ ${1:-} == --check ]]; then
    is_checked=yes
    shift
fi
file=${1:?which program? infra/glibc.sh FILE}
command -v readelf >/dev/null || {
    echo "error: readelf is not installed: apt-get install binutils" >&2
    exit 1
}

version=$(needed "$file") || {
    echo "error: $file is not there, or no program for Linux" >&2
    exit 1
}
if ! fits "$version" "$limit"; then
    echo "error: $file needs glibc $version, Lambda's image has $limit" >&2
    echo "hint: build it on a system with glibc $limit or older, as in the container image" \
        "public.ecr.aws/sam/build-provided.al2023" >&2
    exit 1
fi
echo "$file needs glibc $version, Lambda's image has $limit"

if [[ -n $is_checked ]]; then
    wrong() {
        echo "error: the check is wrong: $1" >&2
        exit 1
    }
    # Numbers, not texts.
    fits 2.4 2.34 && fits 2.34 2.34 && ! fits 2.35 2.34 && ! fits 2.100 2.34 || wrong comparison
    # 2.2.5 is the oldest there is on this processor; every Rust program asks for more.
    GLIBC=2.2.5 "$0" "$file" >/dev/null 2>&1 && wrong "every program passes"
    "$0" "$0" >/dev/null 2>&1 && wrong "what is no program passes"
    echo "and the check can fail"
fi
