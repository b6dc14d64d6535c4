"""The function under the cases of `changefold conformance`: it tells what it was called with, and
does what it is told to do. Nothing but Python's standard library."""

import json
import os
import urllib.request


def handler(event, _context):
    request = urllib.request.Request(
        os.environ["CONFORMANCE_URL"],
        json.dumps(event).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        told = json.load(answer)
    if "error" in told:
        raise RuntimeError(told["error"])
    return told["reply"]
