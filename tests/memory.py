#!/usr/bin/env python3
"""Replays 200,000 and 1,000,000 generated changes of 20,000 orders and compares peak memory.

The peak must not grow with the length of the stream: within 10 %. Prints a table with
records per second. Needs a release build:

    cargo build --release && tests/memory.py
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PROGRAM = TARGET / "release" / "changefold"
ORDERS = 20_000
CHANGES = (200_000, 1_000_000)
GROWTH_MAX = 1.10


def replay(fixture):
    """Peak memory in MiB and seconds of one replay, in a process of its own."""
    command = [PROGRAM, "replay", fixture, "--views", ROOT / "views" / "orders.sql"]
    command += ["--template", ROOT / "infra" / "template.yaml", "--format", "json"]
    start = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        report = json.load(process.stdout)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"replay ended with {process.returncode}")
    return usage.ru_maxrss / 1024, time.monotonic() - start, report


def main():
    if not PROGRAM.exists():
        sys.exit(f"{PROGRAM} is not there: cargo build --release")
    peaks = []
    print(f"{'changes':>10} {'peak MiB':>9} {'seconds':>8} {'records/s':>10} {'store calls':>12}")
    with tempfile.TemporaryDirectory() as folder:
        for changes in CHANGES:
            fixture = pathlib.Path(folder) / f"{changes}.jsonl.gz"
            generate = [sys.executable, ROOT / "fixtures" / "million.py"]
            generate += ["--changes", str(changes), "--orders", str(ORDERS), "--out", fixture]
            subprocess.run(generate, check=True)
            peak, seconds, report = replay(fixture)
            peaks.append(peak)
            rate = report["records"] / seconds
            calls = report["store"]["calls"]
            print(f"{report['records']:>10} {peak:>9.1f} {seconds:>8.1f} {rate:>10.0f} {calls:>12}")
    growth = peaks[1] / peaks[0]
    print(f"peak at {CHANGES[1]:,} changes is {growth:.3f} times that at {CHANGES[0]:,}")
    return 0 if growth <= GROWTH_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
