"""Files that change while `changefold dev` runs: the function, the template, a view.

    reload.py PROGRAM

What is new is taken up between two invocations, and every item that is put meanwhile comes through
once. What is broken is told, and what ran before goes on. A view with another definition is built
anew from its table beside live writes; at the end it is what SQLite makes of the items.
"""

import pathlib
import re
import sqlite3
import sys
import tempfile
import time

import boto3

from desk import Desk, eventually
from ten_thousand import of_desk

FUNCTION = """
import os

def handler(event, context):
    with open(os.environ["RECORD_TO"], "a") as file:
        for record in event["Records"]:
            file.write(f"VERSION {record['dynamodb']['Keys']['id']['S']}\\n")
"""
TABLE = """
  NAME:
    Type: AWS::DynamoDB::Table
    Properties:
      AttributeDefinitions: [{AttributeName: id, AttributeType: S}]
      KeySchema: [{AttributeName: id, KeyType: HASH}]
      StreamSpecification: {StreamViewType: NEW_AND_OLD_IMAGES}
"""
EVENT = """
        OfNAME:
          Type: DynamoDB
          Properties: {Stream: !GetAtt NAME.StreamArn, StartingPosition: TRIM_HORIZON}
"""


def template(*tables):
    resources = "".join(TABLE.replace("NAME", name) for name in tables)
    events = "".join(EVENT.replace("NAME", name) for name in tables)
    function = "  Function:\n    Type: AWS::Serverless::Function\n    Properties:\n      Timeout: 20"
    return f"Resources:{resources}\n{function}\n      Events:{events}"


def put(url, table, **item):
    of_dynamodb = lambda value: {"N": str(value)} if isinstance(value, int) else {"S": value}
    wanted = {name: of_dynamodb(value) for name, value in item.items()}
    boto3.client("dynamodb", endpoint_url=url).put_item(TableName=table, Item=wanted)


def a_function(program, folder):
    recorded = folder / "recorded"
    app, described = folder / "app.py", folder / "template.yaml"
    app.write_text(FUNCTION.replace("VERSION", "one"))
    described.write_text(template("First"))
    python = ["--exec", sys.executable, "--exec-arg", "-m", "--exec-arg", "awslambdaric"]
    arguments = [*python, "--exec-arg", "app.handler", "--template", "template.yaml", "--no-page"]
    desk = Desk(program, arguments, folder, {"RECORD_TO": str(recorded)})
    expected = []

    def through(table, key, version):
        put(desk.url, table, id=key)
        expected.append(f"{version} {key}")
        lines = lambda: recorded.read_text().splitlines() if recorded.exists() else []
        eventually(lambda: lines() != expected and f"{lines()} for {expected}")

    through("First", "a", "one")
    app.write_text("def handler(event, context:\n")
    desk.told(r"(app\.py: .*what ran before goes on)")
    through("First", "b", "one")
    app.write_text(FUNCTION.replace("VERSION", "two"))
    desk.told(r"(app\.py: the change is taken up)")
    through("First", "c", "two")
    described.write_text("Resources: [")
    desk.told(r"(template\.yaml: .*is not YAML.*what ran before goes on)")
    through("First", "d", "two")
    described.write_text(template("First", "Second"))
    desk.told(r"(template\.yaml: the change is taken up)")
    assert "table Second is made: key id" in desk.said, desk.said
    through("Second", "e", "two")
    through("First", "f", "two")
    summary = desk.stop()
    assert "First: 5 records in 5 invocations, 0 failed" in summary, summary
    assert "Second: 1 records in 1 invocations, 0 failed" in summary, summary
    print("a function and a template that change: taken up, and what is broken is not")


VIEW = "CREATE MATERIALIZED VIEW kinds AS SELECT kind, {} FROM things{} GROUP BY kind;\n"


def a_view(program, folder):
    views = folder / "views.sql"
    views.write_text(VIEW.format("count(*) AS items", ""))
    desk = Desk(program, ["--views", "views.sql", "--table", "things=id"], folder)
    items = {}

    def more(count):
        for number in range(len(items), len(items) + count):
            items[f"i{number}"] = (f"kind-{number % 5}", number)
            put(desk.url, "things", id=f"i{number}", kind=f"kind-{number % 5}", n=number)

    def is_sqlites(select):
        database = sqlite3.connect(":memory:")
        database.execute("CREATE TABLE things (kind TEXT, n INT)")
        database.executemany("INSERT INTO things VALUES (?, ?)", items.values())
        expected = sorted(tuple(map(str, row)) for row in database.execute(select))
        found = lambda: of_desk(program, desk.url, "kinds")
        return eventually(lambda: found() != expected and f"{found()} for {expected}")

    more(100)
    is_sqlites("SELECT kind, count(*) FROM things GROUP BY kind")
    views.write_text("CREATE MATERIALIZED VIEW kinds AS SELECT kind, median(n) FROM things;")
    desk.told(r"(views\.sql: .*what ran before goes on)")
    more(50)
    is_sqlites("SELECT kind, count(*) FROM things GROUP BY kind")
    views.write_text(VIEW.format("count(*) AS items, sum(n) AS total", " WHERE n >= 20"))
    desk.told(r"(kinds changed: built anew from table things in \d+ s)")
    began = time.monotonic()
    # Until then the former rows are shown, and fed.
    more(50)
    is_sqlites("SELECT kind, count(*) FROM things GROUP BY kind")
    while not re.search("kinds as changed: shown from now on", desk.said):
        assert time.monotonic() - began < 150, desk.said
        more(1)
        time.sleep(0.5)
    more(20)
    is_sqlites("SELECT kind, count(*), sum(n) FROM things WHERE n >= 20 GROUP BY kind")
    desk.stop()
    took = time.monotonic() - began
    print(f"a view that changes: built anew beside {len(items)} items in {took:.0f} s")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        a_function(sys.argv[1], pathlib.Path(scratch))
        a_view(sys.argv[1], pathlib.Path(scratch))
