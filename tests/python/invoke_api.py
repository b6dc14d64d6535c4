"""Lambda's Invoke API over a handler in this process, as an emulator of others serves it.

    invoke_api.py PORT MODULE.HANDLER

No emulator that runs here without containers invokes Python by name in the way Lambda does, so
this is the little of it that `replay --invoke-url` needs: `POST …/functions/NAME/invocations`, the
function's answer, or its error with the header `X-Amz-Function-Error`.
"""

import http.server
import importlib
import json
import sys
import traceback
import types


class Invocations(http.server.BaseHTTPRequestHandler):
    """One POST is one invocation."""

    protocol_version = "HTTP/1.1"
    handler = None

    def do_POST(self):  # the name is http.server's
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self.path.startswith("/2015-03-31/functions/"):
            return self.answer(404, {"Message": "no such operation"})
        context = types.SimpleNamespace(aws_request_id="local", function_name="function")
        try:
            self.answer(200, type(self).handler(json.loads(body), context))
        except Exception as error:  # whatever it is, it is the function's
            told = {
                "errorMessage": str(error),
                "errorType": type(error).__name__,
                "stackTrace": traceback.format_tb(error.__traceback__),
            }
            self.answer(200, told, error="Unhandled")

    def answer(self, status, value, error=None):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if error:
            self.send_header("X-Amz-Function-Error", error)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Says nothing: payloads are not for logs, and calls are noted by the function."""


def main():
    port, name = sys.argv[1:]
    module, _, function = name.rpartition(".")
    Invocations.handler = staticmethod(getattr(importlib.import_module(module), function))
    http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Invocations).serve_forever()


if __name__ == "__main__":
    main()
