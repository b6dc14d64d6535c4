// The JavaScript clients, unchanged, through the desk's endpoint: `node desk.mjs URL`.
import assert from "node:assert";
import { CreateTableCommand, DynamoDBClient, PutItemCommand } from "@aws-sdk/client-dynamodb";
import {
  CreateStreamCommand, GetRecordsCommand, GetShardIteratorCommand, KinesisClient, PutRecordsCommand,
} from "@aws-sdk/client-kinesis";

const endpoint = process.argv[2];
const kinesis = new KinesisClient({ endpoint });
const StreamName = "javascript";
await kinesis.send(new CreateStreamCommand({ StreamName, ShardCount: 1 }));
const Records = [...Array(100).keys()].map((n) => ({ PartitionKey: "k", Data: Buffer.from(`${n}`) }));
await kinesis.send(new PutRecordsCommand({ StreamName, Records }));
const { ShardIterator } = await kinesis.send(new GetShardIteratorCommand({
  StreamName, ShardId: "shardId-000000000000", ShardIteratorType: "TRIM_HORIZON",
}));
const read = await kinesis.send(new GetRecordsCommand({ ShardIterator }));
assert.deepEqual(read.Records.map(({ Data }) => Number(Buffer.from(Data))), [...Array(100).keys()]);

const tables = new DynamoDBClient({ endpoint });
await tables.send(new CreateTableCommand({
  TableName: StreamName, BillingMode: "PAY_PER_REQUEST",
  KeySchema: [{ AttributeName: "id", KeyType: "HASH" }],
  AttributeDefinitions: [{ AttributeName: "id", AttributeType: "S" }],
}));
await tables.send(new PutItemCommand({ TableName: StreamName, Item: { id: { S: "a" } } }));
console.log("javascript: 100 records put and read over HTTP/2, an item put");
process.exit(0);
