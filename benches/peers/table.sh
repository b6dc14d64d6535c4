#!/usr/bin/env bash
# Measures everything (`cargo bench --bench ratios`) and writes both tables into docs/speed.md,
# between their markers. Nothing there is typed by hand.
#
#   benches/peers/install.sh && benches/peers/table.sh
#   benches/peers/table.sh --last     # the tables of the last run, nothing measured anew
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-target}
[[ ${1-} == --last ]] || cargo bench --locked --bench ratios

python3 - "$target" docs/speed.md <<'PYTHON'
import datetime, json, os, pathlib, re, sys

target, page = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
peers = target / "peers"
versions = json.loads((peers / "versions.json").read_text())
whole = json.loads((peers / "whole.json").read_text())
ratios = json.loads((target / "ratios.json").read_text())
cpu = re.search(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
day = datetime.date.fromtimestamp((peers / "whole.json").stat().st_mtime)
made_of = {
    "changefold": "this library {changefold} ({commit}, profile `{profile}`), {rustc}",
    "bare Rust": "lambda_runtime {lambda_runtime}, aws_lambda_events {aws_lambda_events}, "
    "serde_dynamo {serde_dynamo}",
    "bare Node": "Node {node}, `JSON.parse`",
    "Powertools Python": "{aws-lambda-powertools}, awslambdaric {awslambdaric}, Python {python}",
    "Powertools TypeScript": "{@aws-lambda-powertools/batch}, util-dynamodb "
    "{@aws-sdk/util-dynamodb}, Node {node}",
}
ours = whole["functions"][0]


def cells(function):
    yield function["name"]
    yield made_of[function["name"]].format(**versions)
    for ms, base in zip(function["ms"], ours["ms"]):
        yield from ("–", "–") if ms is None else (f"{ms:.2f} ms", f"{ms / base:.1f}")
    memory = function["peak_memory"]
    yield "–" if memory is None else f"{memory / 1e6:.0f} MB"


def table(head, align, rows):
    lines = [head, align, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


sizes = whole["sizes"]
head = ["function", "made of", *(it for size in sizes for it in (size, "× ours")), "peak memory"]
functions = table(head, ["---"] * 2 + ["--:"] * 5, (list(cells(it)) for it in whole["functions"]))
machine = f"{cpu[1] if cpu else 'an unknown CPU'}, {os.cpu_count()} cores, {day}"
functions = f"{functions}\n\n{machine}; the least of 21 turns."


def row(it):
    if it["ratio"] is None:
        return [it["name"], "–", "–", "–", "–", it["note"]]
    sign = "≥" if it["aim"] > it["must"] else "≤"
    turns = "–".join(f"{quartile:.2f}" for quartile in it["turns"] or [])
    holds = "yes" if it["holds"] else "**no**"
    return [it["name"], f"{it['ratio']:.2f}", turns, f"{sign} {it['must']:g}", holds,
            it["note"]]


head = ["figure", "ratio", "turn by turn", "must", "holds", ""]
ratios = table(head, ["---", "--:", "--:", "--:", "---", "---"], (row(it) for it in ratios))

text = page.read_text()
for name, content in (("functions", functions), ("ratios", ratios)):
    start, end = f"<!-- {name}: written by benches/peers/table.sh -->", f"<!-- {name} end -->"
    before, rest = text.split(start)
    text = f"{before}{start}\n{content}\n{end}{rest.split(end)[1]}"
page.write_text(text)
print(page, "has the tables of", day, file=sys.stderr)
PYTHON
