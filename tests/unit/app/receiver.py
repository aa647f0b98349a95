"""A receiver of webhooks on this machine: it takes, refuses, fails, redirects or hangs as told."""

import json
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Receiver:
    """Keeps what it took, as ``(headers, body)``.

    `answer` gives the status of a request, or None to hang; `takes` says with which status a request was taken nevertheless.
    """

    def __init__(self, answer=lambda: 204, headers=(), takes=lambda status: 200 <= status < 300, port=0):
        self.taken, self.asked, self.released = [], 0, threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.asked += 1
                status = answer()
                if status is None:
                    receiver.released.wait(60)
                    self.close_connection = True
                    return
                if takes(status):
                    receiver.taken.append((dict(self.headers), body))
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/told"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def bodies(self):
        return [json.loads(body) for _, body in self.taken]

    @property
    def keys(self):
        return [headers["webhook-id"] for headers, _ in self.taken]


def at_random(seed, share=0.5):
    """Fails at random."""
    chance = random.Random(seed)
    return lambda: 204 if chance.random() > share else 503
