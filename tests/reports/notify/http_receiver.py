"""An HTTP server of the tests' own, which answers as a script says and keeps what it receives."""

import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Received:
    """A request; header names are in lower case."""

    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Receiver:
    """The script and the memory of a server: each request gets the next answer, the last one is repeated.

    Answer 0 closes the connection, -1 leaves the client without an answer. With `endless`, the body of an answer does not end.
    """

    answers: list[int] = field(default_factory=lambda: [200])
    headers: Mapping[str, str] = field(default_factory=dict)
    requests: list[Received] = field(default_factory=list)
    url: str = ""
    endless: bool = False
    body: bytes = b"busy\x1b[31m\n"


@contextmanager
def run_receiver(script: Receiver | None = None, *, tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """Run a server on this machine; its address is in `url`."""
    receiver = script or Receiver()
    stopped = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            code = receiver.answers[min(len(receiver.requests), len(receiver.answers) - 1)]
            receiver.requests.append(Received(self.path, headers, body))
            if code > 0:
                self.send_response(code)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(receiver.body)
                self.wfile.flush()
                stopped.wait(5 if receiver.endless else 0)
            elif code < 0:
                stopped.wait(5)
            self.close_connection = True

        do_GET = do_POST  # noqa: N815 - as above

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in the base class
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that rejects our certificate
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    receiver.url = f"{'https://localhost' if tls else 'http://127.0.0.1'}:{server.server_port}/events?token=s3cret"
    try:
        yield receiver
    finally:
        stopped.set()
        server.shutdown()
        server.server_close()
        thread.join(5)
