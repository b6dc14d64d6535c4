"""What `dev --record` has written, played again: the same views, and the same invocations.

    recorded.py PROGRAM

A function in Python fails with one record in a hundred, so that batches are halved; the calls of
the live run and of the replay are compared one by one, by their records and their outcomes. As a
control the marks of the batches' ends are taken out of the file: then the calls differ.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.request

import boto3

from any_function import FUNCTIONS, POISON
from desk import Desk, eventually

VIEWS = """
CREATE MATERIALIZED VIEW by_kind AS
SELECT kind, count(*) AS items, sum(n) AS total FROM things GROUP BY kind;
"""
SETTINGS = ["--set", "MaximumRetryAttempts=1"]
PUTS = 600


def write(url):
    """Some at a time, so that batches have different lengths; some items change."""
    tables = boto3.client("dynamodb", endpoint_url=url)
    for number in range(PUTS):
        it = {
            "id": {"S": f"id-{number % 400}"},
            "n": {"N": str(number)},
            "kind": {"S": f"kind-{number % 7}"},
        }
        if number in POISON:
            it["does"] = {"S": POISON[number]}
        tables.put_item(TableName="things", Item=it)
        if number % 50 == 49:
            time.sleep(0.1)


def calls_of(page):
    """The calls of each shard that a page shows: records, positions and outcome."""
    data = page.split('type="application/json">')[1].split("</script>")[0]
    calls = {}
    for call in json.loads(data)["calls"]:
        told = tuple(call[name] for name in ("records", "first", "last", "outcome", "finished"))
        calls.setdefault(call["shard"].split(" ")[-1], []).append(told)
    return calls


def live(program, folder, target, environment, is_over):
    """The run that is recorded: its calls, and its rows."""
    fixture = folder / f"{len(list(folder.glob('*.jsonl')))}.jsonl"
    arguments = [*target, *SETTINGS, "--table", "things=id", "--record", str(fixture)]
    desk = Desk(program, arguments, FUNCTIONS, environment)
    page = desk.told(r"the page is (\S+?)#")
    write(desk.url)
    get = lambda: urllib.request.urlopen(page).read().decode()
    eventually(lambda: None if is_over(get()) else "records are missing")
    calls = calls_of(get())
    desk.stop(status=3 if environment else 0)
    return fixture, calls


def finished(page):
    data = json.loads(page.split('type="application/json">')[1].split("</script>")[0])
    given_up = sum(one["records"] for one in data["discarded"])
    return data["figures"]["records finished"] + given_up


def replayed(program, folder, fixture, target, environment):
    page = folder / "replay.html"
    replay = subprocess.run(
        [program, "replay", str(fixture), *target, *SETTINGS, "--report", str(page),
         "--format", "json"],
        cwd=FUNCTIONS,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert replay.returncode in (0, 3), replay.stderr.decode()
    return json.loads(replay.stdout), calls_of(page.read_text())


def a_function(program, folder):
    python = ["--exec", sys.executable, "--exec-arg", "-m", "--exec-arg", "awslambdaric"]
    target = [*python, "--exec-arg", "recorder.handler"]
    to = {"RECORD_TO": str(folder / "live")}
    fixture, calls = live(program, folder, target, to, lambda page: finished(page) == PUTS)
    again = {"RECORD_TO": str(folder / "again")}
    document, of_replay = replayed(program, folder, fixture, target, again)
    assert document["records"] == PUTS
    assert of_replay == calls, f"{of_replay}\n{calls}"
    assert (folder / "live").read_text() == (folder / "again").read_text()
    unmarked = folder / "unmarked.jsonl"
    unmarked.write_text(fixture.read_text().replace(',"endsBatch":true', ""))
    _, others = replayed(program, folder, unmarked, target, again)
    assert others != calls, "the control finds nothing"
    (of_shard,) = calls.values()
    failed = sum(call[3] == "failed" for call in of_shard)
    print(f"{len(of_shard)} calls, {failed} of them failed, are the replay's one by one")


def views(program, folder):
    (folder / "views.sql").write_text(VIEWS)
    target = ["--views", str(folder / "views.sql")]
    fixture, calls = live(program, folder, target, {}, lambda page: finished(page) == PUTS)
    document, of_replay = replayed(program, folder, fixture, target, {})
    assert of_replay == calls, f"{of_replay}\n{calls}"
    kinds = {}
    for number in range(PUTS - 400, PUTS):
        kind = kinds.setdefault(f"kind-{number % 7}", [0, 0])
        kind[0] += 1
        kind[1] += number
    rows = {row["kind"]: [row["items"], row["total"]] for row in document["views"]["by_kind"]}
    assert rows == kinds, rows
    print(f"the views of the replay are those of the {PUTS} changes that were recorded")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        a_function(sys.argv[1], pathlib.Path(scratch))
        views(sys.argv[1], pathlib.Path(scratch))
