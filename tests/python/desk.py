"""A Python function with one poison record in a hundred, driven by `changefold replay`.

    desk.py CHANGEFOLD

The function (function.py) runs behind the Runtime API under awslambdaric (`--exec`) and behind the
Invoke API (`--invoke-url`); with Powertools' partial replies, and without, so that bisecting alone
has to find the poison. Held against each other: what the function says it was called with, what
`changefold simulate` says the calls are by the rules recorded from AWS, and what replay tells.
"""

import json
import os
import pathlib
import random
import socket
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RECORDS = 100
RETRIES = 2
PATIENCE_S = 30


def fixture(path, seed):
    """Writes a hundred changes of one shard, one of them poison; its place, counted from 1."""
    command = [sys.executable, ROOT / "fixtures/million.py", "--changes", "1000", "--seed", seed]
    output = subprocess.run(map(str, command), check=True, capture_output=True, text=True)
    records = [json.loads(line) for line in output.stdout.splitlines()]
    records = [record for record in records if record["shardId"] == records[0]["shardId"]]
    records = records[:RECORDS]
    assert len(records) == RECORDS, f"{len(records)} records"
    holds = [at for at, record in enumerate(records) if "NewImage" in record["dynamodb"]]
    at = random.Random(seed).choice(holds)
    records[at]["dynamodb"]["NewImage"]["amount"] = {"S": "12,50"}
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return [record["dynamodb"]["SequenceNumber"] for record in records], at + 1


def mapping(is_partial):
    """The parameters, as simulate and replay take them."""
    return {
        "BatchSize": RECORDS,
        "MaximumRetryAttempts": RETRIES,
        "BisectBatchOnFunctionError": True,
        "FunctionResponseTypes": ["ReportBatchItemFailures"] if is_partial else [],
        "ParallelizationFactor": 1,
    }


def simulated(program, is_partial, poison):
    """The calls, by simulate: lists of records, counted from 1."""
    function = {"reports" if is_partial else "throws_on": [poison]}
    case = {
        "id": "poison",
        "records": RECORDS,
        "mapping": mapping(is_partial),
        "function": function,
    }
    output = subprocess.run(
        [program, "simulate"], input=json.dumps(case), check=True, capture_output=True, text=True
    )
    return json.loads(output.stdout)["invocations"]


def replay(program, path, is_partial, target, environment):
    """Replays the fixture; what replay prints as JSON."""
    command = [program, "replay", path, "--format", "json", *target]
    for name, value in mapping(is_partial).items():
        text = value if isinstance(value, str) else json.dumps(value)
        command += ["--set", f"{name}={text}"]
    output = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=environment, cwd=HERE
    )
    # 3 says that the mapping has discarded records.
    assert output.returncode == 3, f"exit code {output.returncode}: {output.stderr}"
    return json.loads(output.stdout)


def served(handler, environment):
    """Starts the Invoke API; the process and its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(HERE / "invoke_api.py"), str(port), handler]
    process = subprocess.Popen(command, env=environment, cwd=HERE)
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process, f"http://127.0.0.1:{port}"
        time.sleep(0.05)
    process.kill()
    raise AssertionError("the Invoke API does not answer")


def check(program, seed, handler, way, scratch):
    """One run; fails where two of the three accounts differ."""
    name, is_partial = f"function.{handler}", handler == "partial"
    path, calls = scratch / "fixture.jsonl", scratch / f"{way}-{handler}-{seed}.calls"
    numbers, poison = fixture(path, seed)
    environment = {**os.environ, "CALLS": str(calls)}
    process = None
    if way == "exec":
        target = ["--exec", sys.executable]
        for argument in ("-m", "awslambdaric", name):
            target += [f"--exec-arg={argument}"]
    else:
        process, url = served(name, environment)
        target = ["--invoke-url", url]
    try:
        told = replay(program, path, is_partial, target, environment)
    finally:
        if process is not None:
            process.kill()
            process.wait()

    notes = [json.loads(line) for line in calls.read_text("utf-8").splitlines()]
    called = [numbers_called for what, numbers_called in notes if what == "called"]
    finished = {number for what, number in notes if what == "finished"}
    wanted = simulated(program, is_partial, poison)
    assert called == [[numbers[at - 1] for at in call] for call in wanted], (
        f"the calls differ: {[len(call) for call in called]}, by simulate "
        f"{[len(call) for call in wanted]}"
    )
    assert told["invocations"] == len(called), told["invocations"]
    assert told["bisects"] > 0, "nothing was bisected"
    assert finished == set(numbers) - {numbers[poison - 1]}, "not all healthy records are finished"
    [document] = told["on_failure"]
    batch = document["DDBStreamBatchInfo"]
    assert batch["batchSize"] == 1, batch
    assert batch["startSequenceNumber"] == batch["endSequenceNumber"] == numbers[poison - 1], batch
    assert document["requestContext"]["condition"] == "RetryAttemptsExhausted", document
    assert document["requestContext"]["approximateInvokeCount"] == RETRIES + 1, document
    # Powertools raises when every record of a batch has failed, so here it is an error, too.
    assert document["responseContext"]["functionError"] == "Unhandled", document
    print(
        f"{way}, {handler}: record {poison} of {RECORDS} found in {len(called)} calls with "
        f"{told['bisects']} bisects; the on-failure record names it alone"
    )


def main():
    program = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as scratch:
        for seed, (way, handler) in enumerate(
            [("exec", "partial"), ("exec", "plain"), ("invoke", "partial"), ("invoke", "plain")]
        ):
            check(program, str(seed), handler, way, pathlib.Path(scratch))


if __name__ == "__main__":
    main()
