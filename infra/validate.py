#!/usr/bin/env python3
"""Checks infra/template.yaml and infra/backfill.asl.json before AWS does.

1. Translated to CloudFormation, then linted against AWS's own resource schemas.
2. The mappings' settings that the code relies on have the values it relies on; what is given
   up comes back through a queue that keeps it.
3. Tables, role and the views in views/ name the same things, and views that keep values have a
   table for them.
4. The state machine is one: a lint of the states language looks at its states, transitions
   and paths (`tests/servers/asl`); what may invoke the function again does not repeat it.
5. Each alarm on a metric of ours is about one that the function has, and what loses, blocks
   or leaves out records has an alarm.

Then the same checks meet copies of the template with one fault each, and must refuse every
one: a check that has stopped looking would pass the good template just as well.

What it gives up: policies are not evaluated, and nothing here proves that AWS accepts the
stack; only a deployment does.
"""

import copy
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import translate
from cfnlint.api import lint_all
from samtranslator.public.exceptions import InvalidDocumentException

ROOT = pathlib.Path(__file__).resolve().parent.parent

# A mapping without one of these loses records, or wedges; the template says how, line by line.
CONTRACT = {
    "FunctionResponseTypes": ["ReportBatchItemFailures"],
    "BisectBatchOnFunctionError": True,
    "StartingPosition": "TRIM_HORIZON",
    "MaximumRetryAttempts": -1,
    "MaximumRecordAgeInSeconds": 43200,
    "MetricsConfig": {"Metrics": ["EventCount"]},
}


def lint(template):
    """What the translator or AWS's schemas refuse."""
    try:
        stack = translate.translate(copy.deepcopy(template))
    except InvalidDocumentException as error:
        return [cause.message for cause in error.causes]
    # E and W; the linter's I rules are advice on style.
    found = (match for match in lint_all(json.dumps(stack)) if match.rule.id[0] in "EW")
    return [f"{match.rule.id} {match.message}" for match in found]


def events(template):
    """Every event source of every function, by logical id."""
    return {
        name: event
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::Serverless::Function"
        for name, event in resource["Properties"]["Events"].items()
    }


def contract(template):
    """Which settings the code relies on are missing or otherwise."""
    sources = events(template)
    kinds = sorted(event["Type"] for event in sources.values())
    faults = [] if kinds == ["DynamoDB", "Kinesis"] else [f"event sources are {kinds}"]
    for name, event in sources.items():
        properties = event["Properties"]
        for setting, wanted in CONTRACT.items():
            if properties.get(setting) != wanted:
                faults.append(f"{name}: {setting} is {properties.get(setting)}, not {wanted}")
        destination = properties.get("DestinationConfig", {}).get("OnFailure", {})
        if destination.get("Type") != "S3":
            faults.append(f"{name}: the on-failure destination is not S3, which has the payload")
    return faults


def rescue(template):
    """Where what Lambda gave up could be lost on its way back."""
    resources = template["Resources"]
    mapping = resources["FunctionGivenUp"]["Properties"]
    queue = resources["GivenUp"]["Properties"]
    timeout = resources["Function"]["Properties"]["Timeout"]
    faults = []
    if mapping.get("FunctionResponseTypes") != ["ReportBatchItemFailures"]:
        faults.append("FunctionGivenUp: what the answer names is deleted")
    if "RedrivePolicy" not in queue:
        faults.append("GivenUp: what is refused has no dead-letter queue")
    if queue.get("VisibilityTimeout", 30) < 6 * timeout:
        faults.append("GivenUp: a message comes again while it is worked on")
    variables = resources["Function"]["Properties"]["Environment"]["Variables"]
    for name in ("CHANGEFOLD_RESCUE_STREAMS", "CHANGEFOLD_RESCUE_BUCKETS"):
        if variables.get(name, {}).get("Fn::If", [None])[0] != "Rescues":
            faults.append(f"Function: {name} does not follow the parameter Rescue")
    return faults


def states(template):
    """What the lint of the states language refuses, and loops that Lambda would add to ours."""
    resources = template["Resources"]
    faults = []
    retries = resources["Function"]["Properties"].get("EventInvokeConfig", {})
    if retries.get("MaximumRetryAttempts") != 0:
        faults.append("Function: Lambda repeats a link of a backfill")
    rights = resources["BackfillChainRights"]
    if rights.get("Condition") != "Continues":
        faults.append("BackfillChainRights: the function may invoke itself without being asked to")
    with tempfile.NamedTemporaryFile("w", suffix=".asl.json") as file:
        json.dump(translate.definition(template), file)
        file.flush()
        linted = subprocess.run(
            ["node", os.environ["ASL_VALIDATOR"], "--json-path", file.name],
            capture_output=True,
            text=True,
            check=False,
        )
    if linted.returncode != 0:
        said = (linted.stdout + linted.stderr).replace(file.name, "infra/backfill.asl.json")
        faults.append(said.strip())
    return faults


# Aggregates that are computed from the values of a group.
KEEPS_VALUES = re.compile(r"\b(?:min|max)\s*\(|\(\s*DISTINCT\b", re.IGNORECASE)


def statements():
    """Name, source and text of every view in views/, as far as this check needs SQL."""
    for path in sorted((ROOT / "views").glob("*.sql")):
        text = re.sub(r"--[^\n]*", "", path.read_text())
        for statement in text.split(";"):
            name = re.search(r'\bVIEW\s+"?([\w.-]+)"?', statement, re.IGNORECASE)
            source = re.search(r'\bFROM\s+"?([\w.-]+)"?', statement, re.IGNORECASE)
            if name and source:
                yield name[1], source[1], statement


def views():
    """Name and source of every view in views/."""
    return {name: source for name, source, _ in statements()}


# What the function does to the table of values.
VALUES_RIGHTS = {
    "dynamodb:BatchGetItem",
    "dynamodb:ConditionCheckItem",
    "dynamodb:DeleteItem",
    "dynamodb:PutItem",
    "dynamodb:Query",
    "dynamodb:Scan",
    "dynamodb:UpdateItem",
}


def granted(resources):
    """The actions that the role has on the table of values."""
    found = set()
    for policy in resources["Role"]["Properties"]["Policies"]:
        for statement in policy["PolicyDocument"]["Statement"]:
            if "Fn::If" in statement:
                statement = statement["Fn::If"][1]
            if statement.get("Resource") == {"Fn::GetAtt": ["Values", "Arn"]}:
                found |= set(statement["Action"])
    return found


def values(template, texts=None):
    """Where the table of values and the right to it are missing, or not as the code needs them."""
    resources = template["Resources"]
    faults = []
    table = resources["Values"]
    if table.get("Condition") != "HasValues":
        faults.append("Values: the table is there without views that keep values")
    if table["Properties"].get("TableName") != {"Fn::Sub": "${Ledger}-values"}:
        faults.append("Values: the function looks for a table of another name")
    keys = [(key["AttributeName"], key["KeyType"]) for key in table["Properties"]["KeySchema"]]
    if keys != [("pk", "HASH"), ("sk", "RANGE")]:
        faults.append(f"Values: its keys are {keys}")
    policies = json.dumps(resources["Role"]["Properties"]["Policies"])
    if '{"Fn::GetAtt": ["Values", "Arn"]}' not in policies:
        faults.append("Values: the function has no right to the table")
    faults += [f"Values: no right to {it}" for it in sorted(VALUES_RIGHTS - granted(resources))]
    sources = served(template)
    keeping = texts or [text for _, source, text in statements() if source in sources]
    is_on = template["Parameters"]["KeepsValues"]["Default"] == "on"
    if any(KEEPS_VALUES.search(text) for text in keeping) and not is_on:
        faults.append("KeepsValues is off, and a view in views/ has min, max or DISTINCT")
    return faults


def served(template):
    """What the event sources are called."""
    resources = template["Resources"]
    return {
        resources[event["Properties"]["Stream"]["Fn::GetAtt"][0]]["Properties"][key]
        for event in events(template).values()
        for key in [{"DynamoDB": "TableName", "Kinesis": "Name"}[event["Type"]]]
    }


def names(template):
    """Where tables, role and views disagree."""
    resources = template["Resources"]
    prefix = template["Parameters"]["ViewTablePrefix"]["Default"]
    tables = translate.tables(template)
    sources = served(template)
    wanted = {f"{prefix}{view}" for view, source in views().items() if source in sources}
    there = {
        logical_id: table["TableName"]
        for logical_id, table in tables.items()
        if table["TableName"].startswith(prefix)
    }
    faults = [f"view table {name} is missing" for name in sorted(wanted - {*there.values()})]
    faults += [f"table {name} has no view" for name in sorted({*there.values()} - wanted)]

    statements = next(
        policy["PolicyDocument"]["Statement"]
        for policy in resources["Role"]["Properties"]["Policies"]
        if policy["PolicyName"] == "keep-the-views"
    )
    of_views = next(each["Resource"] for each in statements if isinstance(each["Resource"], list))
    allowed = {resource["Fn::GetAtt"][0] for resource in of_views}
    for logical_id in sorted({*there} ^ allowed):
        faults.append(f"{logical_id}: a view table without rights, or rights without a table")
    for logical_id, table in tables.items():
        kept = {"Ledger": "pk", "Parked": "pk", "Progress": "pk", "Values": "pk"}
        key = kept.get(logical_id, "_pk" if logical_id in allowed else None)
        if key and table["KeySchema"][0]["AttributeName"] != key:
            faults.append(f"{logical_id}: its key is not {key}")
    return faults


# What nobody would notice otherwise: each has an alarm of its own.
ALARMED = {"KeysParked", "RecordsParked", "ParkFull", "RecordsLost", "RecordsQuarantined"}


def alarms(template):
    """Alarms on metrics that do not exist, and metrics that need an alarm and have none."""
    source = (ROOT / "src/telemetry.rs").read_text()
    metrics = {*re.findall(r'pub const \w+: &str = "(\w+)";', source)}
    found = {}
    for name, resource in template["Resources"].items():
        properties = resource.get("Properties", {})
        is_ours = properties.get("Namespace") == "changefold"
        if resource["Type"] == "AWS::CloudWatch::Alarm" and is_ours:
            found[name] = properties
    faults = []
    for name, properties in found.items():
        if properties["MetricName"] not in metrics:
            faults.append(f"{name}: the function has no metric {properties['MetricName']}")
        if properties.get("Dimensions") != [{"Name": "FunctionName", "Value": {"Ref": "Function"}}]:
            faults.append(f"{name}: the function's metrics have the dimension FunctionName alone")
    alarmed = {properties["MetricName"] for properties in found.values()}
    return faults + [f"no alarm on {metric}" for metric in sorted(ALARMED - alarmed)]


def controls(template):
    """Copies of the template, one fault each: (what is wrong, which check must see it, copy)."""

    def fault(what, check, change):
        broken = copy.deepcopy(template)
        change(broken)
        return what, check, broken

    def of_states(what, change):
        broken = copy.deepcopy(template)
        machine = broken["Resources"]["BackfillStates"]["Properties"]
        machine["Definition"] = translate.definition(template)
        change(machine["Definition"]["States"])
        return what, states, broken

    def of_segment(change):
        return lambda of_run: change(of_run["Segments"]["ItemProcessor"]["States"])

    def setting(name, value):
        return lambda broken: events(broken)["Orders"]["Properties"].update({name: value})

    return [
        fault("a misspelt setting", lint, setting("BisectBatchOnFunctionErrors", True)),
        fault("a batch too large", lint, setting("BatchSize", 10001)),
        fault("an eleventh lane", lint, setting("ParallelizationFactor", 11)),
        fault("retries below -1", lint, setting("MaximumRetryAttempts", -2)),
        fault("no such position", lint, setting("StartingPosition", "EARLIEST")),
        fault("answers ignored", contract, setting("FunctionResponseTypes", [])),
        fault(
            "answers to the queue ignored",
            rescue,
            lambda broken: broken["Resources"]["FunctionGivenUp"]["Properties"].pop(
                "FunctionResponseTypes"
            ),
        ),
        fault(
            "a queue that forgets",
            rescue,
            lambda broken: broken["Resources"]["GivenUp"]["Properties"].pop("RedrivePolicy"),
        ),
        fault(
            "a longer function",
            rescue,
            lambda broken: broken["Resources"]["Function"]["Properties"].update(Timeout=61),
        ),
        fault(
            "an attribute that does not exist",
            lint,
            lambda broken: broken["Outputs"]["OrdersTable"].update(
                Value={"Fn::GetAtt": ["Orders", "StreamArm"]}
            ),
        ),
        fault(
            "an alarm on a metric that does not exist",
            alarms,
            lambda broken: broken["Resources"]["ParkFull"]["Properties"].update(
                MetricName="ParksFull"
            ),
        ),
        fault(
            "nobody told of quarantined items",
            alarms,
            lambda broken: broken["Resources"].pop("RecordsQuarantined"),
        ),
        fault(
            "a link that is repeated",
            states,
            lambda broken: broken["Resources"]["Function"]["Properties"].pop("EventInvokeConfig"),
        ),
        of_states("a state nobody knows", lambda of_run: of_run["List"].update(Next="Segment")),
        of_states(
            "a misspelt field of a state",
            of_segment(lambda of_one: of_one["Work"].update(ResultPaths="$.worked")),
        ),
        of_states(
            "a path that is none",
            of_segment(lambda of_one: of_one["WaitForRates"].update(SecondsPath="worked.wait_s")),
        ),
        of_states(
            "a segment that may be asked for without end",
            of_segment(lambda of_one: of_one["Judge"]["Choices"].pop(1)),
        ),
        fault(
            "no right to the values",
            values,
            lambda broken: broken["Resources"]["Role"]["Properties"].update(Policies=[]),
        ),
        fault(
            "values under another name",
            values,
            lambda broken: broken["Resources"]["Values"]["Properties"].pop("TableName"),
        ),
        fault(
            "a right without a table",
            names,
            lambda broken: broken["Resources"].pop("CustomerTotals"),
        ),
        fault(
            "a view table under another name",
            names,
            lambda broken: broken["Resources"]["CustomerTotals"]["Properties"].update(
                TableName={"Fn::Sub": "${ViewTablePrefix}customer_total"}
            ),
        ),
    ]


def main():
    template = translate.load()
    failed = False
    for check in (lint, contract, rescue, states, names, values, alarms):
        for fault in check(template):
            failed = True
            print(f"error: infra/template.yaml: {fault}", file=sys.stderr)
    for what, check, broken in controls(template):
        if not check(broken):
            failed = True
            print(f"error: control passed unseen: {what}", file=sys.stderr)
    if not values(template, ["SELECT g, count(DISTINCT x) AS n FROM orders GROUP BY g"]):
        failed = True
        print("error: control passed unseen: a view that keeps values", file=sys.stderr)
    if failed:
        sys.exit(1)
    print(
        f"infra/template.yaml: {len(template['Resources'])} resources,"
        f" {len(views())} views; {len(controls(template))} faults planted, all refused",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
