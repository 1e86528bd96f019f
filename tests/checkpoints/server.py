"""A server on this machine that understands Range and If-Range and cuts connections if told to."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Publisher(ThreadingHTTPServer):
    """Sends `content` with `etag`; the first connections end after as many bytes as `cuts` says.

    ranges: the Range of every request so far, None without one. ignores_ranges: as many servers do.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.etag = b"", '"1"'
        self.cuts: list[int] = []
        self.ranges: list[str | None] = []
        self.ignores_ranges = False


class Handler(BaseHTTPRequestHandler):
    server: Publisher

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.ranges.append(wanted)
        content, start = self.server.content, 0
        same = self.headers.get("If-Range") == self.server.etag
        if wanted and same and not self.server.ignores_ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start >= len(content) > 0:
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if self.server.etag:
            self.send_header("ETag", self.server.etag)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        length = self.server.cuts.pop(0) if self.server.cuts else len(content)
        self.wfile.write(content[start : start + length])

    def log_message(self, *args: object) -> None:
        """Tests print nothing."""


@contextmanager
def closing_server() -> Iterator[Publisher]:
    """A publisher that answers while the block lasts."""
    with Publisher() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
