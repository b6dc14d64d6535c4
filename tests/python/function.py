"""A function with Powertools' batch processor, and the same one without: for tests/python.sh.

An order whose amount is no number is poison. `partial` says which record failed, `plain` raises.
Both append to the file named by CALLS what they were called with, which is how the check knows.
"""

import json
import os
from decimal import Decimal

from aws_lambda_powertools.utilities.batch import (
    BatchProcessor,
    EventType,
    process_partial_response,
)
from aws_lambda_powertools.utilities.data_classes.dynamo_db_stream_event import DynamoDBRecord

processor = BatchProcessor(event_type=EventType.DynamoDBStreams)


def bill(record: DynamoDBRecord):
    """Handles one change of an order."""
    image = record.dynamodb.new_image
    if image is not None and not isinstance(image["amount"], Decimal):
        raise ValueError("an amount that is no number")
    note("finished", record.dynamodb.sequence_number)


def note(what, told):
    """Appends a line to the file of calls, in one write."""
    with open(os.environ["CALLS"], "a", encoding="utf-8") as calls:
        calls.write(json.dumps([what, told]) + "\n")


def called_with(event):
    """Notes the sequence numbers of a call."""
    note("called", [record["dynamodb"]["SequenceNumber"] for record in event["Records"]])


def partial(event, context):
    """What Powertools' users deploy: it replies with the records that failed."""
    called_with(event)
    return process_partial_response(
        event=event, record_handler=bill, processor=processor, context=context
    )


def plain(event, _context):
    """What everybody else deploys: one bad record fails the whole batch."""
    called_with(event)
    for record in event["Records"]:
        bill(DynamoDBRecord(record))
