"""10,000 items and 10,000 records through `changefold dev`, written by boto3 from this process.

    ten_thousand.py PROGRAM [DYNAMODB_URL KINESIS_URL]

Two desks run: one keeps views, the other a function in Python (awslambdaric) that writes down what
it sees. The items are put, changed and deleted in a table; the records go into a stream of four
shards that splits and merges meanwhile. At the end the views equal what SQLite says of the same
items, and each key's records came to the function in order, all of them. Without URLs the first
desk serves DynamoDB and Kinesis, and the second one reads there.
"""

import json
import pathlib
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import defaultdict

import boto3

from desk import Desk, eventually

ITEMS = 10_000
CHANGED = 1_000
DELETED = 500
RECORDS = 10_000
KEYS = 97
FUNCTIONS = pathlib.Path(__file__).parent / "functions"
VIEWS = """
CREATE MATERIALIZED VIEW amounts AS
SELECT kind, count(*) AS items, sum(amount) AS amount, min(n) AS lowest, max(n) AS highest
FROM things GROUP BY kind;
CREATE MATERIALIZED VIEW big AS SELECT id, n, amount FROM things WHERE amount >= 990;
CREATE MATERIALIZED VIEW clicks_by_key AS
SELECT key, count(*) AS clicks, sum(n) AS total, max(n) AS last FROM clicks GROUP BY key;
"""


def item(number, is_changed=False):
    amount = (number * 7919 + (501 if is_changed else 0)) % 1000
    return {"id": f"id-{number}", "kind": f"kind-{number % 13}", "n": number, "amount": amount}


def write_items(tables):
    """Puts, changes and deletes; the items that are left."""
    left = {}

    def put(wanted):
        of_dynamodb = lambda value: {"N": str(value)} if isinstance(value, int) else {"S": value}
        for first in range(0, len(wanted), 25):
            puts = wanted[first : first + 25]
            requests = [
                {"PutRequest": {"Item": {name: of_dynamodb(it[name]) for name in it}}}
                for it in puts
            ]
            while requests:
                answer = tables.batch_write_item(RequestItems={"things": requests})
                requests = answer["UnprocessedItems"].get("things")
            left.update((it["id"], it) for it in puts)

    put([item(number) for number in range(ITEMS)])
    put([item(number, True) for number in range(0, ITEMS, ITEMS // CHANGED)])
    gone = [f"id-{number}" for number in range(5, ITEMS, ITEMS // DELETED)]
    for first in range(0, len(gone), 25):
        requests = [{"DeleteRequest": {"Key": {"id": {"S": it}}}} for it in gone[first : first + 25]]
        while requests:
            answer = tables.batch_write_item(RequestItems={"things": requests})
            requests = answer["UnprocessedItems"].get("things")
    for it in gone:
        del left[it]
    return left


def active(kinesis):
    """The open shards, in the order of their keys, once the stream can be changed."""
    while True:
        summary = kinesis.describe_stream_summary(StreamName="clicks")["StreamDescriptionSummary"]
        if summary["StreamStatus"] == "ACTIVE":
            break
        time.sleep(0.02)
    shards = kinesis.list_shards(StreamName="clicks")["Shards"]
    shards = [it for it in shards if "EndingSequenceNumber" not in it["SequenceNumberRange"]]
    return sorted(shards, key=lambda it: int(it["HashKeyRange"]["StartingHashKey"]))


def write_records(kinesis):
    """Writes while the shards split and merge; what was written, by key."""
    written = defaultdict(list)
    reshards = 0
    for first in range(0, RECORDS, 500):
        records = []
        for number in range(first, first + 500):
            key = f"key-{number % KEYS}"
            written[key].append(number)
            data = json.dumps({"key": key, "n": number})
            records.append({"PartitionKey": key, "Data": data.encode()})
        answer = kinesis.put_records(StreamName="clicks", Records=records)
        assert answer["FailedRecordCount"] == 0, answer["FailedRecordCount"]
        if first % 2000 == 0:
            shard = active(kinesis)[0]
            low, high = (int(shard["HashKeyRange"][f"{end}HashKey"]) for end in ("Starting", "Ending"))
            kinesis.split_shard(
                StreamName="clicks",
                ShardToSplit=shard["ShardId"],
                NewStartingHashKey=str((low + high) // 2),
            )
            reshards += 1
        elif first % 2000 == 1000:
            shards = active(kinesis)
            kinesis.merge_shards(
                StreamName="clicks",
                ShardToMerge=shards[1]["ShardId"],
                AdjacentShardToMerge=shards[2]["ShardId"],
            )
            reshards += 1
    return written, reshards


def of_sqlite(items, written):
    """What SQLite makes of the same items and records, by view."""
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE things (id TEXT PRIMARY KEY, kind TEXT, n INT, amount INT)")
    rows = [tuple(it[name] for name in ("id", "kind", "n", "amount")) for it in items.values()]
    database.executemany("INSERT INTO things VALUES (?, ?, ?, ?)", rows)
    database.execute("CREATE TABLE clicks (key TEXT, n INT)")
    clicks = [(key, number) for key, numbers in written.items() for number in numbers]
    database.executemany("INSERT INTO clicks VALUES (?, ?)", clicks)
    views = {}
    for view in VIEWS.split("CREATE MATERIALIZED VIEW ")[1:]:
        name, select = view.split(" AS\n" if " AS\n" in view else " AS ", 1)
        views[name.strip()] = sorted(tuple(map(str, row)) for row in database.execute(select))
    return views


def of_desk(program, url, name):
    read = subprocess.run(
        [program, "view", "read", name, "--format", "json", "--endpoint-url", url],
        capture_output=True,
        check=True,
    )
    return sorted(tuple(map(str, row.values())) for row in json.loads(read.stdout))


def through(program, folder, urls):
    (folder / "views.sql").write_text(VIEWS)
    recorded = folder / "recorded"
    streams = ["--table", "things=id", "--stream", "clicks=4", "--quiet", "--no-page"]
    elsewhere = lambda at: ["--endpoint-url", at[0], "--kinesis-endpoint-url", at[-1]]
    views = ["--views", "views.sql", *streams, *(elsewhere(urls) if urls else [])]
    keeping = Desk(program, views, folder)
    urls = urls or [keeping.url]
    python = ["--exec", sys.executable, "--exec-arg", "-m", "--exec-arg", "awslambdaric"]
    function = [*python, "--exec-arg", "recorder.handler"]
    noting = Desk(
        program, [*function, *streams, *elsewhere(urls)], FUNCTIONS, {"RECORD_TO": str(recorded)}
    )
    began = time.monotonic()
    items = write_items(boto3.client("dynamodb", endpoint_url=urls[0]))
    written, reshards = write_records(boto3.client("kinesis", endpoint_url=urls[-1]))
    wrote = time.monotonic() - began
    expected = of_sqlite(items, written)

    def differing():
        found = {name: of_desk(program, urls[0], name) for name in expected}
        return [f"{name}: {found[name][:3]} for {expected[name][:3]}"
                for name in expected if found[name] != expected[name]]

    views_took = eventually(differing)
    changes = ITEMS + CHANGED + DELETED
    count = lambda: recorded.read_bytes().count(b"\n") if recorded.exists() else 0
    noting_took = eventually(lambda: count() < changes + RECORDS and f"{count()} records came")
    seen = defaultdict(list)
    for line in recorded.read_text().splitlines():
        place, key, number = line.split(" ")
        if place != "things":
            seen[key].append(int(number))
    assert seen == written, "records of a key are lost, repeated or out of order"
    assert count() == changes + RECORDS, f"{count()} records, some of them twice"
    for desk in (noting, keeping):
        summary = desk.stop()
        assert f"things: {changes} records in " in summary, summary
        assert f"clicks: {RECORDS} records in " in summary, summary
        assert summary.count(" 0 failed, 0 bisects, 0 discards") == 2, summary
    print(
        f"{changes} changes of {ITEMS} items and {RECORDS} records over {reshards} splits and "
        f"merges, written in {wrote:.1f} s: after {views_took:.1f} s more the views are SQLite's, "
        f"after {noting_took:.1f} s each of {KEYS} keys came to the function in order"
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        through(sys.argv[1], pathlib.Path(scratch), sys.argv[2:])
