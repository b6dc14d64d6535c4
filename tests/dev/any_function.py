"""A function in Python behind `changefold dev`: in processes of its own, and behind an Invoke URL.

    any_function.py PROGRAM

One item in a hundred is poison: the function raises. One outlasts the timeout, one ends the
process. Each takes the way that it takes on AWS: its batch is halved down to it, it is tried once
more and given up alone; every other record comes to the function exactly once. Then the same
function behind Lambda's Invoke API, which throttles and hangs up now and then: neither counts as an
attempt, so that without retries nothing but poison is given up.
"""

import http.server
import importlib
import json
import os
import pathlib
import sys
import tempfile
import threading

import boto3

from desk import Desk, eventually

FUNCTIONS = pathlib.Path(__file__).parent / "functions"
ITEMS = 1_000
TEMPLATE = """
Parameters:
  Stage: {Type: String, Default: test}
Resources:
  Things:
    Type: AWS::DynamoDB::Table
    Properties:
      TableName: !Sub 'things-of-${Stage}'
      AttributeDefinitions: [{AttributeName: id, AttributeType: S}]
      KeySchema: [{AttributeName: id, KeyType: HASH}]
      StreamSpecification: {StreamViewType: NEW_AND_OLD_IMAGES}
  Recorder:
    Type: AWS::Serverless::Function
    Properties:
      Timeout: 3
      Environment: {Variables: {TABLE: !Ref Things, STAGE: !Ref Stage}}
      Events:
        Changes:
          Type: DynamoDB
          Properties:
            Stream: !GetAtt Things.StreamArn
            StartingPosition: TRIM_HORIZON
            BatchSize: 20
            MaximumRetryAttempts: 1
            BisectBatchOnFunctionError: true
"""


POISON = {number: "raise" for number in range(37, ITEMS, 100)}
FAILING = {**POISON, 411: "sleep", 617: "exit"}


def write(url, table, failing):
    tables = boto3.client("dynamodb", endpoint_url=url)
    for first in range(0, ITEMS, 25):
        puts = []
        for number in range(first, first + 25):
            it = {"id": {"S": f"id-{number}"}, "n": {"N": str(number)}}
            if number in failing:
                it["does"] = {"S": failing[number]}
            puts.append({"PutRequest": {"Item": it}})
        answer = tables.batch_write_item(RequestItems={table: puts})
        assert not answer["UnprocessedItems"]


def came(recorded):
    lines = recorded.read_text().splitlines() if recorded.exists() else []
    return [int(line.split(" ")[2]) for line in lines if not line.startswith("#")]


def check(desk, recorded, failing):
    """Waits for all, and looks at what came: every record but those, once, in order."""
    others = [number for number in range(ITEMS) if number not in failing]
    eventually(lambda: len(came(recorded)) < len(others) and f"{len(came(recorded))} came")
    lone = lambda: desk.said.count("discarded: 1 records from ")
    eventually(lambda: lone() < len(failing) and f"{lone()} records were given up")
    assert came(recorded) == others, "records are lost, repeated or out of order"


def in_processes(program, folder):
    recorded = folder / "recorded"
    (folder / "template.yaml").write_text(TEMPLATE)
    python = ["--exec", sys.executable, "--exec-arg", "-m", "--exec-arg", "awslambdaric"]
    arguments = [*python, "--exec-arg", "recorder.handler", "--no-page"]
    template = ["--template", str(folder / "template.yaml")]
    desk = Desk(program, [*template, *arguments], FUNCTIONS, {"RECORD_TO": str(recorded)})
    write(desk.url, "things-of-test", FAILING)
    check(desk, recorded, FAILING)
    said = desk.said
    for error in (
        "ValueError: number 37 is poison",
        "timed out after 3000 ms; its process was killed",
        "the function's process ended: exit status: 3",
    ):
        assert error in said, f"{error}\n{said}"
    # Lambda's own names: the last of a lone record's two attempts.
    assert said.count("(RetryAttemptsExhausted)") == len(FAILING), said
    first = recorded.read_text().splitlines()[0]
    assert first == "# things-of-test of test has 0", first
    summary = desk.stop(status=3)
    print(f"a function in Python by awslambdaric: {summary.splitlines()[0]}")


class InvokeApi(http.server.BaseHTTPRequestHandler):
    """Lambda's Invoke, with a function in this process."""

    protocol_version = "HTTP/1.1"
    calls = 0

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        assert self.path == "/2015-03-31/functions/recorder/invocations", self.path
        InvokeApi.calls += 1
        if InvokeApi.calls % 7 == 3:
            message = {"Reason": "ReservedFunctionConcurrentInvocationLimitExceeded"}
            return self.answer(429, message, {"X-Amzn-Errortype": "TooManyRequestsException"})
        if InvokeApi.calls % 7 == 5:
            self.close_connection = True
            return self.connection.close()
        try:
            reply = importlib.import_module("recorder").handler(json.loads(body), None)
        except ValueError as error:
            told = {"errorType": "ValueError", "errorMessage": str(error)}
            return self.answer(200, told, {"X-Amz-Function-Error": "Unhandled"})
        return self.answer(200, reply, {})

    def answer(self, status, value, headers):
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def behind_a_url(program, folder):
    recorded = folder / "recorded-behind-a-url"
    os.environ["RECORD_TO"] = str(recorded)
    sys.path.insert(0, str(FUNCTIONS))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), InvokeApi)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/2015-03-31/functions/recorder/invocations"
    settings = ["BatchSize=20", "MaximumRetryAttempts=0", "BisectBatchOnFunctionError=true"]
    arguments = [part for setting in settings for part in ("--set", setting)]
    desk = Desk(program, ["--invoke-url", url, "--table", "things=id", "--no-page", *arguments])
    write(desk.url, "things", POISON)
    check(desk, recorded, POISON)
    assert "not invoked" in desk.said, desk.said
    assert InvokeApi.calls > 60, f"{InvokeApi.calls} calls, of which none had trouble"
    summary = desk.stop(status=3)
    print(f"behind an Invoke URL that throttles and hangs up: {summary.splitlines()[0]}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        in_processes(sys.argv[1], pathlib.Path(scratch))
        behind_a_url(sys.argv[1], pathlib.Path(scratch))
