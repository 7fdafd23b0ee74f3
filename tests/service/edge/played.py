"""Plays what stands behind the edge, in a container without anything of ours: the gateway, which
says what it was sent, and the registry service, which lets `host:right` push to `open/` and pull.
"""

import base64
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LOGIN = "Basic " + base64.b64encode(b"host:right").decode()


class Played(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path != "/internal/oci/authorise":
            said = {"path": self.path, "method": self.command, **dict(self.headers.items())}
            return self._answer(200, json.dumps(said).encode())
        if self.headers.get("Authorization") != LOGIN:
            return self._answer(401, challenge=True)
        reads = self.headers["X-Original-Method"] in ("GET", "HEAD")
        opens = self.headers["X-Original-URI"].startswith("/v2/open/")
        return self._answer(200 if reads or opens else 403)

    def do_PUT(self) -> None:
        taken = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(200, json.dumps({"bytes": len(taken)}).encode())

    def _answer(self, status: int, body: bytes = b"", *, challenge: bool = False) -> None:
        self.send_response(status)
        if challenge:
            self.send_header("WWW-Authenticate", 'Basic realm="Chusuan"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


if __name__ == "__main__":
    ThreadingHTTPServer(("", 8000), Played).serve_forever()
