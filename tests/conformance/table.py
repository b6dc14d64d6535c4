"""Holds what `changefold conformance` found against the table in docs/fidelity.md.

    table.py ROWS.json docs/fidelity.md [--write]
"""

import datetime
import importlib.metadata
import json
import pathlib
import sys

BEGIN = "<!-- conformance: begin -->\n"
END = "<!-- conformance: end -->\n"


def table(rows):
    """The rows as Markdown, without the date."""
    lines = ["| rule | case | by the rule | ministack | |", "|---|---|---|---|---|"]
    for row in rows:
        cells = [row["rule"], row["case"], row["expected"], row["found"], row["verdict"]]
        lines.append("| " + " | ".join(cell.replace("|", "·") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def main():
    rows, page = json.loads(pathlib.Path(sys.argv[1]).read_text("utf-8")), pathlib.Path(sys.argv[2])
    text = page.read_text("utf-8")
    before, rest = text.split(BEGIN)
    kept, after = rest.split(END)
    found = table(rows)
    version = importlib.metadata.version("ministack")
    print(found, end="")
    if sys.argv[3:] == ["--write"]:
        today = datetime.date.today().isoformat()
        agrees = sum(row["verdict"] == "agrees" for row in rows)
        head = f"ministack {version}, {today}: {agrees} of {len(rows)} cases go as the rules say.\n\n"
        page.write_text(f"{before}{BEGIN}{head}{found}{END}{after}", "utf-8")
        return
    if kept.split("\n\n", 1)[-1] != found or f"ministack {version}," not in kept:
        sys.exit(f"error: the table in {page} is another one: tests/conformance.sh --write")


if __name__ == "__main__":
    main()
