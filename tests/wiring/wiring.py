"""Does a write to a source reach the views, through the deployed template?

Deploys the translated infra/template.yaml with the packaged function to a running ministack,
puts items and records, and reads the view tables.

It proves WIRING only: names, environment, both event source mappings, the package, the way
from a function to its tables. It proves nothing about retries, bisecting or destinations:
ministack takes any answer for success and ignores those settings, and it does not check the
role's rights.
"""

import decimal
import io
import json
import pathlib
import sys
import time
import zipfile

import boto3

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "infra"))
import translate  # noqa: E402
import validate  # noqa: E402

STACK = "changefold"
PATIENCE_S = 60


def zipped(package):
    """The package as Lambda wants it: bootstrap at the top, executable."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in sorted(pathlib.Path(package).rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(package))
    return buffer.getvalue()


def deploy(client, package, parameters=None):
    """Creates the stack and returns its resources: physical by logical id."""
    client("s3").create_bucket(Bucket="packages")
    client("s3").put_object(Bucket="packages", Key="function.zip", Body=zipped(package))
    stack = translate.translate(translate.load(), "s3://packages/function.zip")
    cloudformation = client("cloudformation")
    cloudformation.create_stack(
        StackName=STACK,
        TemplateBody=json.dumps(stack),
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[
            {"ParameterKey": name, "ParameterValue": value}
            for name, value in (parameters or {}).items()
        ],
    )
    cloudformation.get_waiter("stack_create_complete").wait(
        StackName=STACK, WaiterConfig={"Delay": 1, "MaxAttempts": PATIENCE_S}
    )
    found = cloudformation.describe_stack_resources(StackName=STACK)["StackResources"]
    return {each["LogicalResourceId"]: each["PhysicalResourceId"] for each in found}


def order(status, amount):
    """An order as in fixtures/orders.jsonl."""
    return {
        "order_id": {"S": "o-wiring"},
        "customer": {"M": {"id": {"S": "c-wiring"}, "name": {"S": "Ada Byron"}}},
        "placed_at": {"S": "2026-03-02T08:05:00Z"},
        "status": {"S": status},
        "amount": {"N": amount},
        "coupon": {"NULL": True},
        "gift": {"BOOL": False},
        "lines": {
            "L": [
                {
                    "M": {
                        "article": {"S": "cup"},
                        "quantity": {"N": "4"},
                        "price": {"N": "4.25"},
                    }
                }
            ]
        },
    }


def click(page):
    """A click as in fixtures/clicks.jsonl."""
    return {
        "visitor": "v-wiring",
        "page": page,
        "ms": 743,
        "scrolled": 0.83,
        "referrer": "https://blog.example/",
        "first_visit": True,
        "geo": {"country": "PT"},
    }


class Wiring:
    """The deployed stack and what its views hold."""

    def __init__(self, client):
        self.client = client
        self.prefix = translate.load()["Parameters"]["ViewTablePrefix"]["Default"]
        self.tables = {
            source: [
                f"{self.prefix}{view}" for view, of in validate.views().items() if of == source
            ]
            for source in ("orders", "clicks")
        }

    def rows(self, source):
        """Every row of every view over one source."""
        dynamodb = self.client("dynamodb")
        return {
            table: sorted(
                dynamodb.scan(TableName=table, ConsistentRead=True)["Items"],
                key=lambda row: json.dumps(row, sort_keys=True, default=str),
            )
            for table in self.tables[source]
        }

    def number(self, rows, view, key, column):
        """A number of the row whose key column has a value: `key` is (column, value)."""
        for row in rows[f"{self.prefix}{view}"]:
            if row.get(key[0]) == {"S": key[1]} and column in row:
                return decimal.Decimal(row[column]["N"])
        return None

    def wait(self, source, what, settled):
        """Reads the views of a source until `settled(rows)`, and says how they look then."""
        start = time.monotonic()
        while not settled(rows := self.rows(source)):
            if time.monotonic() - start > PATIENCE_S:
                self.explain()
                sys.exit(f"error: {what}: not seen in {PATIENCE_S} s; the views hold {rows}")
            time.sleep(0.2)
        counts = ", ".join(f"{table} {len(held)}" for table, held in rows.items())
        print(f"{what}: after {time.monotonic() - start:.1f} s rows are: {counts}")
        return rows

    def explain(self):
        """The end of the function's log, for whoever has to find out why."""
        logs = self.client("logs")
        for group in logs.describe_log_groups()["logGroups"]:
            events = logs.filter_log_events(logGroupName=group["logGroupName"])["events"]
            lines = [line for event in events for line in event["message"].splitlines()]
            ours = [line for line in lines if not line.startswith(("START ", "END ", "REPORT "))]
            for line in ours[-20:]:
                print(f"  {line}", file=sys.stderr)


def main():
    endpoint, package = sys.argv[1:]

    def client(service):
        return boto3.client(service, endpoint_url=endpoint)

    resources = deploy(client, package)
    print(f"deployed {len(resources)} resources")
    wiring = Wiring(client)
    for source, tables in wiring.tables.items():
        if not tables:
            sys.exit(f"error: no view in views/ reads {source}, so nothing would be shown")
        if any(wiring.rows(source).values()):
            sys.exit(f"error: a view over {source} has rows before anything was written")

    def put_item(status, amount):
        item = order(status, amount)
        client("dynamodb").put_item(TableName=resources["Orders"], Item=item)

    def put_record(page):
        client("kinesis").put_record(
            StreamName=resources["Clicks"],
            PartitionKey="v-wiring",
            Data=json.dumps(click(page)).encode(),
        )

    def total_is(amount):
        of = ("customer_id", "c-wiring")
        return lambda rows: all(rows.values()) and (
            wiring.number(rows, "customer_totals", of, "total") == decimal.Decimal(amount)
        )

    def clicked(page):
        of = ("page", page)
        return lambda rows: all(rows.values()) and wiring.number(rows, "pages", of, "clicks") == 1

    # The order is paid, not just placed, since then every view over orders counts it.
    put_item("PAID", "32.8")
    put_record("/cups")
    wiring.wait("orders", "PutItem, a new order: its customer's total is 32.8", total_is("32.8"))
    wiring.wait("clicks", "PutRecord, a click: its page has 1", clicked("/cups"))
    put_item("PAID", "30")
    put_record("/checkout")
    wiring.wait("orders", "PutItem, the order changed: the total is 30", total_is("30"))
    wiring.wait("clicks", "PutRecord, on another page: it has 1", clicked("/checkout"))

    print(
        "wiring holds: both mappings, the environment, the package and the tables."
        " (Not shown here: retries, bisect, destinations, rights; ministack ignores them.)"
    )


if __name__ == "__main__":
    main()
