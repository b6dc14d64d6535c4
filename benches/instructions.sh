#!/usr/bin/env bash
# Counts the instructions a record costs (callgrind), which no neighbour on the machine changes,
# and fails if one of ours costs over 3 % more than benches/instructions.txt says.
#
#   benches/instructions.sh            # the table, held against the file
#   benches/instructions.sh --write    # the table becomes the file
#
# A count is the difference of three and one passes over 1,000 records, so that what happens
# once falls out. Other compilers and other CPUs (with other vector instructions) give other
# counts: the file says what it is of, and is renewed with them.
set -euo pipefail
cd "$(dirname "$0")/.."
file=benches/instructions.txt
records=1000

command -v valgrind >/dev/null || {
    echo "error: valgrind is not installed; hint: apt-get install valgrind" >&2
    exit 1
}
# `Executable benches/ratios/main.rs (…/ratios-0123)`, on stderr.
bench=$(cargo bench --locked --bench ratios --no-run 2>&1 | tee /dev/stderr |
    sed -n 's/.*Executable .*(\(.*\))$/\1/p')

# collected NAME TIMES — the instructions of a whole run.
collected() {
    local output
    output=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null \
        "$bench" --count "$1" "$2" 2>&1) || { printf '%s\n' "$output" >&2; return 1; }
    sed -n 's/.*Collected : //p' <<<"$output"
}

known() { sed -n "s/^$1  *\([0-9]*\)\$/\1/p" "$file" 2>/dev/null || true; }

cpu=$(sed -n 's/^model name\s*: //p;T;q' /proc/cpuinfo)
table="# Instructions a record, by benches/instructions.sh: $(rustc --version), $cpu"$'\n'
status=0
for name in a "a'" walk b ours-typed ours-keys ours-kinesis ours-invoke ours-invoke-kinesis; do
    once=$(collected "$name" 1)
    thrice=$(collected "$name" 3)
    count=$(((thrice - once) / 2 / records))
    before=$(known "$name")
    verdict=''
    if [[ -n $before ]]; then
        verdict=$(awk "BEGIN { printf \"%+.1f %%\", 100 * ($count - $before) / $before }")
        if [[ $name == ours-* && ${1-} != --write ]] && ((count * 100 > before * 103)); then
            verdict+=' GROWN'
            status=1
        fi
    fi
    printf '%-20s %8d  %s\n' "$name" "$count" "$verdict"
    table+=$(printf '%-20s %8d' "$name" "$count")$'\n'
done
if [[ ${1-} == --write ]]; then
    printf '%s' "$table" >"$file"
    echo "written to $file" >&2
fi
exit "$status"
