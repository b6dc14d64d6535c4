#!/usr/bin/env python3
"""Turns infra/template.yaml (SAM) into the plain CloudFormation that AWS deploys.

AWS does the same when the stack is created. Done here, a linter sees the resources that
really come to be: on the SAM file itself it passes a misspelt event property in silence.

    .venv/bin/python infra/translate.py [--code s3://BUCKET/KEY] [TEMPLATE] > stack.json
"""

import argparse
import json
import logging
import os
import pathlib
import sys

import yaml

# The translator asks for a Region to name AWS's partition; any will do.
os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
from samtranslator.public.exceptions import InvalidDocumentException  # noqa: E402
from samtranslator.translator.transform import transform  # noqa: E402

TEMPLATE = pathlib.Path(__file__).with_name("template.yaml")

# It reminds its maintainers of their own usage metrics, once a call.
logging.getLogger("samtranslator").setLevel(logging.ERROR)


class Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms: `!Sub x` is `{"Fn::Sub": x}`."""


def _intrinsic(loader, name, node):
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if name == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {name if name in ("Ref", "Condition") else f"Fn::{name}": value}


Loader.add_multi_constructor("!", _intrinsic)


def load(path=TEMPLATE):
    """The template as it is written."""
    return yaml.load(pathlib.Path(path).read_text(), Loader)  # noqa: S506 (a SafeLoader)


def definition(template):
    """The state machine's definition: its file beside the template, or what stands inline."""
    properties = template["Resources"]["BackfillStates"]["Properties"]
    if "Definition" in properties:
        return properties["Definition"]
    return json.loads(TEMPLATE.with_name(properties["DefinitionUri"]).read_text())


def translate(template, code="s3://bucket/function.zip"):
    """Plain CloudFormation; `code` is where the packaged function lies."""
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = code
        if resource["Type"] == "AWS::Serverless::StateMachine":
            resource["Properties"]["Definition"] = definition(template)
            resource["Properties"].pop("DefinitionUri", None)
    parameters = {
        name: str(parameter["Default"])
        for name, parameter in template["Parameters"].items()
        if "Default" in parameter
    }
    # The functions bring their own role, so no managed policy is ever looked up.
    return transform(template, parameters, managed_policy_loader=None)


def tables(stack, parameters=None):
    """The DynamoDB tables of a translated stack, as arguments of CreateTable, by logical id.

    A table without a name is called by its logical id.
    """
    values = {n: p.get("Default") for n, p in stack["Parameters"].items()} | (parameters or {})

    def text(value, otherwise):
        if value is None:
            return otherwise
        if isinstance(value, str):
            return value
        name = value["Fn::Sub"]
        # A table without a name, which another one is named after, has its logical id.
        for known, replacement in (values | {table: table for table in stack["Resources"]}).items():
            name = name.replace(f"${{{known}}}", str(replacement))
        return name

    copied = ("AttributeDefinitions", "KeySchema", "BillingMode")
    return {
        logical_id: {"TableName": text(resource["Properties"].get("TableName"), logical_id)}
        | {name: resource["Properties"][name] for name in copied}
        for logical_id, resource in stack["Resources"].items()
        if resource["Type"] == "AWS::DynamoDB::Table"
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--code", default="s3://bucket/function.zip")
    parser.add_argument("template", nargs="?", default=TEMPLATE)
    arguments = parser.parse_args()
    try:
        stack = translate(load(arguments.template), arguments.code)
    except InvalidDocumentException as error:
        for cause in error.causes:
            print(f"error: {arguments.template}: {cause.message}", file=sys.stderr)
        sys.exit(1)
    json.dump(stack, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
