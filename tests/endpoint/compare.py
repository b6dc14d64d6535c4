"""The desk's Kinesis beside kinesis-local: `compare.py DESK_URL KINESIS_LOCAL_URL`.

The same requests go to both. Answers must have the same members, and refusals the same codes,
but for the differences listed here, each with its reason; one that is not met any more is an
error too.
"""

import sys
import time

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

MAX = str((1 << 128) - 1)

# Step: what only the desk says, what only kinesis-local says, and why that is right.
PLAIN = "AWS says it of encrypted streams only"
MODEL = "AWS's model of the API is checked first"
DIFFERENCES = {
    "create badly": (["! ValidationException"], ["! LimitExceededException"], MODEL),
    "create with a bad name": (["! ValidationException"], ["! InvalidArgumentException"], MODEL),
    "describe with limit 0": (["! ValidationException"], ["! InvalidArgumentException"], MODEL),
    "list streams": (
        [".StreamSummaries"]
        + [
            f".StreamSummaries[].{member}"
            for member in (
                "StreamARN",
                "StreamCreationTimestamp",
                "StreamModeDetails",
                "StreamModeDetails.StreamMode",
                "StreamName",
                "StreamStatus",
            )
        ],
        [],
        "a newer member of AWS's API",
    ),
    "put": ([], [".EncryptionType"], PLAIN),
    "put none": (
        ["! ValidationException"],
        [".EncryptionType", ".FailedRecordCount", ".Records"],
        MODEL,
    ),
    "put without key": (["! ValidationException"], ["! InvalidArgumentException"], MODEL),
    "put too much": (["! ValidationException"], ["! InvalidArgumentException"], MODEL),
    "read TRIM_HORIZON": ([], [".Records[].EncryptionType"], PLAIN),
    "read AT_SEQUENCE_NUMBER": ([], [".Records[].EncryptionType"], PLAIN),
    "read AFTER_SEQUENCE_NUMBER": ([], [".Records[].EncryptionType"], PLAIN),
    "read AT_TIMESTAMP": ([], [".Records[].EncryptionType"], PLAIN),
    "read another's number": (
        ["! InvalidArgumentException"],
        ["! ResourceNotFoundException"],
        "the shard is there, the argument is wrong",
    ),
    "read a bad iterator": (["! InvalidArgumentException"], ["! 500"], "a failure of its own"),
    "read too much": (["! ValidationException"], ["! 500"], "a failure of its own"),
    "read the end": ([], [".Records[].EncryptionType"], PLAIN),
    "list AT_TRIM_HORIZON": (
        [],
        [".Shards[].AdjacentParentShardId", ".Shards[].ParentShardId"],
        "only the first two shards were open then, and they have no parents",
    ),
    "scale": ([".StreamARN"], [], "a newer member of AWS's API"),
}


def members(value, path=""):
    """The paths of all members."""
    if isinstance(value, dict):
        paths = set()
        for name, inner in value.items():
            if name != "ResponseMetadata":
                paths |= {f"{path}.{name}"} | members(inner, f"{path}.{name}")
        return paths
    if isinstance(value, list):
        return set().union(*(members(inner, f"{path}[]") for inner in value))
    return set()


class Server:
    """One of the two, and what it has given out so far."""

    def __init__(self, url):
        config = Config(retries={"max_attempts": 1}, parameter_validation=False)
        self.kinesis = boto3.client("kinesis", endpoint_url=url, config=config)
        self.number = self.arn = None

    def ask(self, operation, **request):
        try:
            answer = getattr(self.kinesis, operation)(**request)
        except ClientError as error:
            return None, {f"! {error.response['Error']['Code']}"}
        return answer, members(answer)

    def settle(self, stream):
        """Waits until what was asked for is done."""
        for _ in range(200):
            answer, _ = self.ask("describe_stream_summary", StreamName=stream)
            if not answer:
                return
            if answer["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE":
                return
            time.sleep(0.02)
        raise AssertionError(f"{stream} does not become active")

    def iterator(self, shard="shardId-000000000000", kind="TRIM_HORIZON", **more):
        return {"StreamName": "s", "ShardId": shard, "ShardIteratorType": kind, **more}

    def read(self, request):
        answer, paths = self.ask("get_shard_iterator", **request)
        if not answer:
            return paths
        return self.ask("get_records", ShardIterator=answer["ShardIterator"])[1]

    def steps(self):
        """Name and what came of it, in the order of the requests."""
        s = {"StreamName": "s"}
        yield "create", self.ask("create_stream", ShardCount=2, **s)[1]
        self.settle("s")
        yield "create again", self.ask("create_stream", ShardCount=2, **s)[1]
        yield "create badly", self.ask("create_stream", ShardCount=0, StreamName="t")[1]
        yield "create with a bad name", self.ask("create_stream", StreamName="a b", ShardCount=1)[1]
        answer, paths = self.ask("describe_stream", **s)
        self.arn = answer["StreamDescription"]["StreamARN"]
        yield "describe", paths
        yield "describe by ARN", self.ask("describe_stream", StreamARN=self.arn)[1]
        yield "describe none", self.ask("describe_stream", StreamName="none")[1]
        yield "describe with limit 0", self.ask("describe_stream", Limit=0, **s)[1]
        yield "summary", self.ask("describe_stream_summary", **s)[1]
        yield "list streams", self.ask("list_streams")[1]
        yield "list shards", self.ask("list_shards", **s)[1]
        yield "list shards of none", self.ask("list_shards", StreamName="none")[1]
        yield "limits", self.ask("describe_limits")[1]
        answer, paths = self.ask("put_record", PartitionKey="k", Data=b"a", ExplicitHashKey="0", **s)
        self.number = answer["SequenceNumber"]
        yield "put", paths
        entries = [{"PartitionKey": "k", "Data": b"b", "ExplicitHashKey": hash_key}
                   for hash_key in ("0", MAX)]
        yield "put records", self.ask("put_records", Records=entries, **s)[1]
        yield "put none", self.ask("put_records", Records=[], **s)[1]
        yield "put to none", self.ask("put_record", StreamName="none", PartitionKey="k", Data=b"")[1]
        yield "put without key", self.ask("put_record", PartitionKey="", Data=b"a", **s)[1]
        yield "put too much", self.ask(
            "put_record", PartitionKey="k", Data=bytes((10 << 20) + 1), **s)[1]
        yield "put beyond the hash keys", self.ask(
            "put_record", PartitionKey="k", Data=b"a", ExplicitHashKey=str(1 << 128), **s)[1]
        for kind in ("TRIM_HORIZON", "LATEST"):
            yield f"read {kind}", self.read(self.iterator(kind=kind))
        for kind in ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"):
            request = self.iterator(kind=kind, StartingSequenceNumber=self.number)
            yield f"read {kind}", self.read(request)
            yield f"read {kind} of none", self.read(self.iterator(kind=kind))
        yield "read AT_TIMESTAMP", self.read(self.iterator(kind="AT_TIMESTAMP", Timestamp=1.0))
        yield "read AT_TIMESTAMP without one", self.read(self.iterator(kind="AT_TIMESTAMP"))
        yield "read another's number", self.read(self.iterator(
            "shardId-000000000001", "AT_SEQUENCE_NUMBER", StartingSequenceNumber=self.number))
        yield "read no shard", self.read(self.iterator("shardId-000000000009"))
        yield "read a bad iterator", self.ask("get_records", ShardIterator="AAAA")[1]
        yield "read too much", self.ask("get_records", ShardIterator="AAAA", Limit=10_001)[1]
        yield "split badly", self.ask(
            "split_shard", ShardToSplit="shardId-000000000000", NewStartingHashKey=MAX, **s)[1]
        yield "split none", self.ask(
            "split_shard", ShardToSplit="shardId-000000000009", NewStartingHashKey="9", **s)[1]
        yield "split", self.ask("split_shard", ShardToSplit="shardId-000000000000",
                                NewStartingHashKey=str(1 << 126), **s)[1]
        self.settle("s")
        yield "split again", self.ask("split_shard", ShardToSplit="shardId-000000000000",
                                      NewStartingHashKey=str(1 << 126), **s)[1]
        yield "read the end", self.read(self.iterator())
        yield "merge strangers", self.ask(
            "merge_shards", ShardToMerge="shardId-000000000001",
            AdjacentShardToMerge="shardId-000000000002", **s)[1]
        yield "merge", self.ask(
            "merge_shards", ShardToMerge="shardId-000000000002",
            AdjacentShardToMerge="shardId-000000000003", **s)[1]
        self.settle("s")
        yield "list shards after", self.ask("list_shards", **s)[1]
        for kind in ("AT_LATEST", "AT_TRIM_HORIZON", "FROM_TRIM_HORIZON"):
            yield f"list {kind}", self.ask("list_shards", ShardFilter={"Type": kind}, **s)[1]
        yield "describe after", self.ask("describe_stream", **s)[1]
        yield "scale", self.ask("update_shard_count", TargetShardCount=4,
                                ScalingType="UNIFORM_SCALING", **s)[1]
        self.settle("s")
        yield "scale too far", self.ask("update_shard_count", TargetShardCount=40,
                                        ScalingType="UNIFORM_SCALING", **s)[1]
        for hours in (48, 24, 9000):
            yield f"lengthen to {hours}", self.ask(
                "increase_stream_retention_period", RetentionPeriodHours=hours, **s)[1]
        for hours in (24, 48, 1):
            yield f"shorten to {hours}", self.ask(
                "decrease_stream_retention_period", RetentionPeriodHours=hours, **s)[1]
        yield "tag", self.ask("add_tags_to_stream", Tags={"a": "1", "b": "2"}, **s)[1]
        yield "tags", self.ask("list_tags_for_stream", **s)[1]
        yield "untag", self.ask("remove_tags_from_stream", TagKeys=["a"], **s)[1]
        yield "create on demand", self.ask(
            "create_stream", StreamName="d", StreamModeDetails={"StreamMode": "ON_DEMAND"})[1]
        self.settle("d")
        yield "delete", self.ask("delete_stream", **s)[1]


def main(desk_url, other_url):
    differing = {}
    desk, other = Server(desk_url).steps(), Server(other_url).steps()
    steps = 0
    for (name, ours), (_, theirs) in zip(desk, other, strict=True):
        steps += 1
        if ours != theirs:
            differing[name] = (sorted(ours - theirs), sorted(theirs - ours))
    listed = {name: (ours, theirs) for name, (ours, theirs, _) in DIFFERENCES.items()}
    faults = [name for name in differing | listed if differing.get(name) != listed.get(name)]
    for name in faults:
        print(f"{name}: differs by {differing.get(name)}, listed is {listed.get(name)}")
    if faults:
        sys.exit(1)
    print(f"kinesis-local: {steps} requests, the same members and codes but for:")
    for name, (ours, theirs, why) in DIFFERENCES.items():
        print(f"  {name}: desk {ours or '-'}, kinesis-local {theirs or '-'}: {why}")


if __name__ == "__main__":
    main(*sys.argv[1:])
