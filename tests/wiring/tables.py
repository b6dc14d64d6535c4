"""Creates the DynamoDB tables of infra/template.yaml at an endpoint, without the stack.

    tables.py ENDPOINT

A table that the template leaves unnamed is called by its logical id, so the ledger is
`Ledger`; the view tables have the template's prefix.
"""

import pathlib
import sys

import boto3

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "infra"))
import translate  # noqa: E402


def main():
    client = boto3.client("dynamodb", endpoint_url=sys.argv[1])
    for table in translate.tables(translate.load()).values():
        client.create_table(**table)
        client.get_waiter("table_exists").wait(TableName=table["TableName"])


if __name__ == "__main__":
    main()
