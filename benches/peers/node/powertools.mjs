// Powertools for AWS Lambda (TypeScript): its batch processor, one record after another, both
// images by the SDK's `unmarshall`, and three fields of them.
import { BatchProcessor, EventType, processPartialResponse } from "@aws-lambda-powertools/batch";
import { unmarshall } from "@aws-sdk/util-dynamodb";
import { serve } from "./runtime.mjs";

const processor = new BatchProcessor(EventType.DynamoDBStreams);
let seen = 0;

async function process({ dynamodb }) {
  for (const image of [dynamodb.NewImage, dynamodb.OldImage]) {
    if (image) {
      const { pk, status, version } = unmarshall(image);
      seen += pk.length + status.length + version;
    }
  }
}

serve((event, context) =>
  processPartialResponse(event, process, processor, { context, processInParallel: false }),
);
