"""`changefold dev` as a process, for the scripts beside this file."""

import atexit
import os
import re
import signal
import subprocess
import threading
import time


class Desk:
    """The process, the address of its services, and what it has said on stderr."""

    def __init__(self, program, arguments, folder=None, environment=None):
        variables = {**os.environ, **(environment or {})}
        variables.pop("AWS_ENDPOINT_URL", None)
        self.said = ""
        self.process = subprocess.Popen(
            [program, "dev", "--port", "0", *arguments],
            cwd=folder,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        # A script that fails leaves none behind.
        atexit.register(self.process.kill)
        threading.Thread(target=self._listen, daemon=True).start()
        self.url = self.told(r"export AWS_ENDPOINT_URL=(\S+)")

    def _listen(self):
        for line in self.process.stderr:
            self.said += line

    def told(self, pattern, within_s=60):
        """Waits until it has said so; the pattern's group."""
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            found = re.search(pattern, self.said)
            if found:
                return found.group(1)
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"not told: {pattern}\n{self.said}")

    def stop(self, status=0):
        """Ends it as Ctrl-C does; its summary."""
        self.process.send_signal(signal.SIGINT)
        summary = self.process.stdout.read()
        assert self.process.wait() == status, f"{self.process.returncode}\n{self.said}"
        return summary


def eventually(look, within_s=90):
    """Looks until what is found says that nothing is missing; how long that took."""
    began = time.monotonic()
    while True:
        missing = look()
        if not missing:
            return time.monotonic() - began
        assert time.monotonic() - began < within_s, missing
        time.sleep(0.2)
