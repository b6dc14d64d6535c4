"""Powertools for AWS Lambda (Python): its batch processor with its data classes.

Run by AWS's own runtime client: `python -m awslambdaric function.handler`. Three fields of both
images are read; the data classes convert an image as a whole when it is asked for.
"""

from aws_lambda_powertools.utilities.batch import (
    BatchProcessor,
    EventType,
    process_partial_response,
)
from aws_lambda_powertools.utilities.data_classes.dynamo_db_stream_event import (
    DynamoDBRecord,
)

processor = BatchProcessor(event_type=EventType.DynamoDBStreams)
seen = 0


def process(record: DynamoDBRecord):
    global seen
    change = record.dynamodb
    for image in (change.new_image, change.old_image):
        if image:
            seen += len(image["pk"]) + len(image["status"]) + int(image["version"])


def handler(event, context):
    return process_partial_response(
        event=event, record_handler=process, processor=processor, context=context
    )
