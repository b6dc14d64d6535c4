#!/usr/bin/env python3
"""Backfills a table through a deployed stack, twice: by a chain of links, and by Step Functions.

The template is deployed with the parameters that are off otherwise. The function invokes itself
through the emulator's Lambda, and the emulator's Step Functions executes the state machine that
the template names, with the function's ARN put into its definition.

The table is read by a role that the function assumes, so the emulator's STS has answered rightly.

It proves wiring and the definition's way through, with an interpreter that is not ours. It proves
nothing about rights, retries or limits: ministack ignores them. The state machine is followed until
every item is in; then it would wait for hours.
"""

import json
import sys
import time

import boto3
import wiring

ITEMS = 60
PARAMETERS = {"Backfill": "on", "BackfillChain": "scheduled", "BackfillMachine": "on"}


def main():
    endpoint, package = sys.argv[1:]

    def client(service):
        return boto3.client(service, endpoint_url=endpoint)

    trust = {"Version": "2012-10-17", "Statement": []}
    role = client("iam").create_role(
        RoleName="reads-orders", AssumeRolePolicyDocument=json.dumps(trust)
    )["Role"]["Arn"]
    resources = wiring.deploy(client, package, PARAMETERS | {"BackfillRole": role})

    def ask(step):
        event = {"changefold": {"version": 1, "backfill": step}}
        answer = client("lambda").invoke(
            FunctionName=resources["Function"], Payload=json.dumps(event)
        )
        told = json.loads(answer["Payload"].read())
        if "FunctionError" in answer:
            sys.exit(f"error: {step}: {told}")
        return told

    def followed(what, is_over):
        """The run, when all its items are in and `is_over(run)`."""
        start = time.monotonic()
        while True:
            runs = ask({"status": {"table": "orders"}})["runs"]
            if runs and runs[0]["state"] == "catching_up" and is_over(runs[0]):
                counts = runs[0]["counts"]
                if counts["added"] + counts["known"] != ITEMS or counts["not_done"]:
                    sys.exit(f"error: {what}: {counts}")
                print(f"{what}: {ITEMS} items in {time.monotonic() - start:.1f} s")
                return runs[0]
            if time.monotonic() - start > wiring.PATIENCE_S:
                sys.exit(f"error: {what}: not seen in {wiring.PATIENCE_S} s: {runs}")
            time.sleep(0.2)

    for number in range(ITEMS):
        item = wiring.order("PAID", "1") | {"order_id": {"S": f"o-{number}"}}
        client("dynamodb").put_item(TableName=resources["Orders"], Item=item)

    first = ask({"begin": {"table": "orders"}})["run"]
    if ask({"chain": {"start": {"table": "orders"}}})["next"] != 1:
        sys.exit("error: no link was invoked")
    chained = followed("a chain of links", lambda run: run["chain"]["ended"])
    if chained["chain"]["ended"]["code"] != "AllDone" or chained["chain"]["link"] < 1:
        sys.exit(f"error: {chained['chain']}")

    states = client("stepfunctions")
    begin = {"begin": {"table": "orders", "segments": 3, "again": True}}
    execution = states.start_execution(
        stateMachineArn=resources["BackfillStates"], input=json.dumps(begin)
    )["executionArn"]
    followed("the state machine", lambda run: run["run"] != first and run["segments"] == 3)

    def waits():
        told = states.describe_execution(executionArn=execution)
        if told["status"] != "RUNNING":
            sys.exit(f"error: the state machine is {told['status']}: {told.get('cause')}")
        events = states.get_execution_history(executionArn=execution)["events"]
        entered = [event.get("stateEnteredEventDetails", {}).get("name") for event in events]
        return "WaitForTheStream" in entered

    for _ in range(wiring.PATIENCE_S):
        if waits():
            break
        time.sleep(1)
    else:
        sys.exit("error: the state machine does not come to its wait for the stream")
    print("the state machine waits for the stream")


if __name__ == "__main__":
    main()
