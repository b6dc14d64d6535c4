"""A Lambda function that writes down what it is given: a line for each record, in order.

`RECORD_TO` names the file, which several processes of the function append to. A record may say
what happens instead (`does`): `raise` fails its whole batch, as with any function that raises;
`sleep` outlasts the timeout; `exit` ends the process. When it is loaded it writes down how many
items the table `TABLE` has, where there is one: what a function can reach that knows nothing of
the desk but its environment.
"""

import base64
import json
import os
import time

TO = os.environ["RECORD_TO"]


def write(text):
    # One write of a batch: processes beside this one do not come in between.
    with open(TO, "ab", buffering=0) as file:
        file.write(text.encode())


if "TABLE" in os.environ:
    import boto3

    table = boto3.resource("dynamodb").Table(os.environ["TABLE"])
    write(f"# {table.name} of {os.environ['STAGE']} has {table.scan(Select='COUNT')['Count']}\n")


def seen(record):
    """Shard or table, key, and number of a record, and what it does."""
    if "kinesis" in record:
        body = json.loads(base64.b64decode(record["kinesis"]["data"]))
        return record["eventID"].split(":")[0], body["key"], body["n"], body.get("does")
    change = record["dynamodb"]
    image = change.get("NewImage", {})
    number = int(image["n"]["N"]) if "n" in image else -1
    table = record["eventSourceARN"].split("/")[1]
    return table, change["Keys"]["id"]["S"], number, image.get("does", {}).get("S")


def handler(event, context):
    lines = []
    for record in event["Records"]:
        place, key, number, does = seen(record)
        if does == "raise":
            raise ValueError(f"number {number} is poison")
        if does == "sleep":
            time.sleep(600)
        if does == "exit":
            os._exit(3)
        lines.append(f"{place} {key} {number}\n")
    write("".join(lines))
    return {"batchItemFailures": []}
