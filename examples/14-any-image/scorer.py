"""A server of one's own: any program that speaks HTTP. `python scorer.py ADDRESS PORT`."""

import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Scorer(BaseHTTPRequestHandler):
    """`GET /healthz` says that it is ready, `POST /score` adds numbers up."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer the probe."""
        self._answer(200 if self.path == "/healthz" else 404, {"path": self.path})

    def do_POST(self) -> None:
        """Answer with a score, after the time that this version takes."""
        numbers = json.loads(self.rfile.read(int(self.headers["content-length"])))["numbers"]
        time.sleep(float(os.environ.get("SECONDS_TO_THINK", "0")))
        self._answer(200, {"score": sum(numbers), "version": os.environ["VERSION"]})

    def _answer(self, status: int, document: dict[str, object]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Log no requests: the server in front of this one counts them."""


if __name__ == "__main__":
    Scorer.timeout = 60
    ThreadingHTTPServer.request_queue_size = 128
    ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Scorer).serve_forever()
