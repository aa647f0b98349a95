"""A mail server on this machine: it takes mail, or refuses it for now, as told."""

import socketserver
import threading
from email import message_from_bytes, policy


class Inbox:
    """Keeps the mail that it took, as `email.message.EmailMessage`; `answer` gives the status after a message's end."""

    def __init__(self, answer=lambda: 250):
        self.taken, self.asked = [], 0
        inbox = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                self._say(220)
                while line := self.rfile.readline():
                    verb = line[:4].upper().strip()
                    if verb == b"DATA":
                        self._say(354)
                        self._say(inbox._take(self._message()))
                    else:
                        self._say(221 if verb == b"QUIT" else 250)
                        if verb == b"QUIT":
                            return

            def _say(self, code):
                self.wfile.write(f"{code} here\r\n".encode())

            def _message(self):
                lines = []
                while (line := self.rfile.readline()) not in {b".\r\n", b""}:
                    lines.append(line.removeprefix(b"."))
                return b"".join(lines)

        self._answer = answer
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.port = self._server.server_address[1]

    def _take(self, message):
        self.asked += 1
        code = self._answer()
        if code == 250:
            self.taken.append(message_from_bytes(message, policy=policy.default))
        return code

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
