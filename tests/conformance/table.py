"""Holds what `changefold conformance` found against the table in docs/fidelity.md: which cases there
are, what the rules say, and whether the emulator does so. In which calls it does otherwise may depend
on its moments, so that is shown and not compared.

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


def compared(text):
    """The rows of a table without what the emulator did."""
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [(*cells[:3], cells[-1]) for cells in rows]


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
    if compared(kept) != compared(found) or f"ministack {version}," not in kept:
        sys.exit(f"error: the table in {page} is another one: tests/conformance.sh --write")


if __name__ == "__main__":
    main()
