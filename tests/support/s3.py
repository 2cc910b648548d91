"""An S3 server on loopback (moto's) that can be hurt: it records what it is asked, and fails on demand."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
ERROR = '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'

Fault = Callable[["Request"], str]  # what is done to a request: "" for nothing, or one of KINDS
KINDS = ("500", "503", "cut", "cut after", "slow", "expired", "denied", "token", "region", "name")


class Request:
    """One request: its method, the object's name, and the query."""

    def __init__(self, environ: dict[str, Any]) -> None:
        self.method: str = environ["REQUEST_METHOD"]
        self.name: str = environ["PATH_INFO"].rpartition("/")[2]
        self.path: str = environ["PATH_INFO"]
        self.query: str = environ["QUERY_STRING"]
        self.create = "HTTP_IF_NONE_MATCH" in environ


class Quiet(WSGIRequestHandler):
    def log(self, *_: Any) -> None: ...


class Server:
    """`fault` decides on every request. `asked` lists all, `done` those that were carried out; `hurt` counts faults by kind."""

    def __init__(self) -> None:
        self.app = DomainDispatcherApplication(create_backend_app)
        self.fault: Fault = lambda request: ""
        self.asked: list[Request] = []
        self.done: list[Request] = []
        self.hurt: dict[str, int] = dict.fromkeys(KINDS, 0)
        self.http = make_server("127.0.0.1", 0, self.serve, threaded=True, request_handler=Quiet)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def serve(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        self.asked.append(request)
        kind = self.fault(request)
        if kind:
            self.hurt[kind] += 1
        if kind == "cut":
            self.cut(environ)
        if kind == "slow":
            time.sleep(0.5)
        elif kind and kind != "cut after":
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            status, code = {
                "500": ("500 Internal Server Error", "InternalError"),
                "503": ("503 Service Unavailable", "SlowDown"),
                "expired": ("400 Bad Request", "ExpiredToken"),
                "denied": ("403 Forbidden", "AccessDenied"),
                "token": ("400 Bad Request", "InvalidToken"),
                "region": ("400 Bad Request", "AuthorizationHeaderMalformed"),
                "name": ("400 Bad Request", "InvalidBucketName"),
            }[kind]
            message = {"expired": "The provided token has expired."}.get(kind, f"Injected: {code}")
            start_response(status, [("Content-Type", "application/xml")])
            return [] if request.method == "HEAD" else [ERROR.format(code=code, message=message).encode()]
        answer = list(self.app(environ, start_response))
        self.done.append(request)
        if kind == "cut after":  # carried out, but nobody hears of it
            self.cut(environ)
        return answer

    def cut(self, environ: dict[str, Any]) -> None:
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        raise ConnectionError("cut on purpose")

    def written(self, ending: str = "") -> list[str]:
        """Returns the names of the objects that were written, in order: by its own record, not by what a client believes."""
        puts = [r for r in self.done if r.method == "PUT" and r.path.count("/") > 2 and "partNumber" not in r.query]
        return [r.name for r in puts if r.name.endswith(ending)]

    def close(self) -> None:
        self.http.shutdown()


def make_bucket(name: str) -> None:
    from s3fs import S3FileSystem

    S3FileSystem().mkdir(name)


@contextmanager
def serving() -> Iterator[Server]:
    from s3fs import S3FileSystem

    server = Server()
    S3FileSystem.clear_instance_cache()  # clients that know the address of an earlier server
    try:
        yield server
    finally:
        server.close()
        S3FileSystem.clear_instance_cache()
