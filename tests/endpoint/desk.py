"""What boto3 writes to the desk's endpoint is what it reads: `desk.py URL`.

10,000 records go into a stream that splits, merges and scales meanwhile, and 10,000 items into
a table with a stream. Reading parents before children gives each key's records in order, once.
"""

import sys
import time
from collections import defaultdict

import boto3

WRITTEN = 10_000
KEYS = 97


def write_records(kinesis, stream):
    """Writes, while the shards change; gives what was written by key."""
    written = defaultdict(list)
    for first in range(0, WRITTEN, 500):
        numbers = range(first, first + 500)
        records = [
            {"PartitionKey": f"key-{n % KEYS}", "Data": str(n).encode()} for n in numbers
        ]
        answer = kinesis.put_records(StreamName=stream, Records=records)
        assert answer["FailedRecordCount"] == 0, answer["FailedRecordCount"]
        for n in numbers:
            written[f"key-{n % KEYS}"].append(n)
        shards = kinesis.list_shards(StreamName=stream, ShardFilter={"Type": "AT_LATEST"})["Shards"]
        shards.sort(key=lambda shard: int(shard["HashKeyRange"]["StartingHashKey"]))
        if first % 2000 == 0:
            low, high = (int(bound) for bound in shards[0]["HashKeyRange"].values())
            kinesis.split_shard(
                StreamName=stream,
                ShardToSplit=shards[0]["ShardId"],
                NewStartingHashKey=str((low + high) // 2),
            )
        elif first % 2000 == 500:
            kinesis.merge_shards(
                StreamName=stream,
                ShardToMerge=shards[1]["ShardId"],
                AdjacentShardToMerge=shards[2]["ShardId"],
            )
        elif first % 2000 == 1000:
            kinesis.update_shard_count(
                StreamName=stream,
                TargetShardCount=len(shards) + 1,
                ScalingType="UNIFORM_SCALING",
            )
    return written


def read_records(kinesis, stream):
    """Reads all shards, parents before children; gives what was read by key."""
    pages = kinesis.get_paginator("list_shards").paginate(StreamName=stream)
    shards = [shard for page in pages for shard in page["Shards"]]
    read, found = set(), defaultdict(list)
    while len(read) < len(shards):
        for shard in shards:
            parents = {shard.get("ParentShardId"), shard.get("AdjacentParentShardId")} - {None}
            if shard["ShardId"] in read or not parents <= read:
                continue
            iterator = kinesis.get_shard_iterator(
                StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
            )["ShardIterator"]
            is_closed = "EndingSequenceNumber" in shard["SequenceNumberRange"]
            while iterator:
                answer = kinesis.get_records(ShardIterator=iterator, Limit=300)
                for record in answer["Records"]:
                    found[record["PartitionKey"]].append(int(record["Data"]))
                iterator = answer.get("NextShardIterator")
                if not is_closed and answer["MillisBehindLatest"] == 0:
                    break
            read.add(shard["ShardId"])
    return found, len(shards)


def kinesis_through(url):
    kinesis = boto3.client("kinesis", endpoint_url=url)
    kinesis.create_stream(StreamName="clicks", ShardCount=4)
    kinesis.get_waiter("stream_exists").wait(StreamName="clicks")
    began = time.monotonic()
    written = write_records(kinesis, "clicks")
    wrote = time.monotonic()
    found, shards = read_records(kinesis, "clicks")
    assert found == written, "records are lost, repeated or out of order"
    print(
        f"kinesis: {WRITTEN} records over {shards} shards, put in {wrote - began:.2f} s, "
        f"read in {time.monotonic() - wrote:.2f} s, order of {KEYS} keys kept"
    )


def dynamodb_through(url):
    tables = boto3.client("dynamodb", endpoint_url=url)
    streams = boto3.client("dynamodbstreams", endpoint_url=url)
    tables.create_table(
        TableName="orders",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    tables.get_waiter("table_exists").wait(TableName="orders")
    began = time.monotonic()
    # A batch may not have a key twice.
    for first in range(0, WRITTEN, 25):
        puts = [
            {"PutRequest": {"Item": {"id": {"S": f"key-{n % KEYS}"}, "n": {"N": str(n)}}}}
            for n in range(first, first + 25)
        ]
        answer = tables.batch_write_item(RequestItems={"orders": puts})
        assert not answer["UnprocessedItems"]
    wrote = time.monotonic()
    arn = tables.describe_table(TableName="orders")["Table"]["LatestStreamArn"]
    shard = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"][0]
    iterator = streams.get_shard_iterator(
        StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    last, count = {}, 0
    while iterator:
        answer = streams.get_records(ShardIterator=iterator)
        for record in answer["Records"]:
            change = record["dynamodb"]
            key, number = change["Keys"]["id"]["S"], change["NewImage"]["n"]["N"]
            old = change.get("OldImage", {}).get("n", {}).get("N")
            assert old == last.get(key), "an old image is not the new image before it"
            last[key] = number
            count += 1
        iterator = answer.get("NextShardIterator") if answer["Records"] else None
    assert count == WRITTEN, count
    statement = "SELECT n FROM orders WHERE id = 'key-7'"
    assert tables.execute_statement(Statement=statement)["Items"] == [{"n": {"N": last["key-7"]}}]
    assert tables.list_tables()["TableNames"] == ["orders"]
    print(
        f"dynamodb: {WRITTEN} items put in {wrote - began:.2f} s, "
        f"{count} changes read in {time.monotonic() - wrote:.2f} s, images follow each other"
    )


if __name__ == "__main__":
    kinesis_through(sys.argv[1])
    dynamodb_through(sys.argv[1])
