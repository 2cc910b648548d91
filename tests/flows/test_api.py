"""Prefect's API: one that does not come up, one that is not there, and how a run leaves it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from prefect.context import refresh_global_settings_context
from torch import Tensor, nn

from flows import prefect_env
from flows.embedded_api import first_start
from reds_core.errors import UserError
from tests.support.programs import Program, children_of, finished, forked, wait_until
from tests.support.worlds import world


class Endless(nn.Module):
    """A generator that never returns."""

    def forward(self, z: Tensor) -> Tensor:
        x = z.sum()
        while bool(x * 0 == 0):
            x = x + 1.0
        return z


def starting(program: Program) -> int:
    """Returns the process of the embedded API that a program is about to start."""

    def there() -> list[int]:
        return [pid for pid in children_of(program.pid) if b"embedded_api" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    (pid,) = wait_until(there, 60, program.log)
    return int(pid)


def test_an_api_that_dies_at_its_start_says_why_and_what_to_do(embedded: dict[str, str], tmp_path: Path) -> None:
    home = tmp_path / "damaged"
    home.mkdir()
    (home / "prefect.db").write_text("garbage")
    begun = time.monotonic()
    done = finished(forked(("run", world(tmp_path / "world")), embedded | {"REDS_PREFECT_HOME": str(home)}, tmp_path))
    assert done.returncode == 2 and time.monotonic() - begun < 60
    assert "file is not a database" in done.stderr and f"remove {home}" in done.stderr and "REDS_PREFECT_HOME" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_killed_while_its_api_starts_leaves_nothing(embedded: dict[str, str], tmp_path: Path, number: int) -> None:
    program = forked(("run", world(tmp_path / "world")), embedded, tmp_path)
    api = starting(program)
    os.kill(program.pid, number) if number == signal.SIGKILL else os.killpg(program.pid, number)
    assert program.wait(5) == (-number if number == signal.SIGKILL else 130), program.log()
    assert "Traceback" not in program.log()
    wait_until(lambda: not Path(f"/proc/{api}/exe").exists(), 20, program.log)


def test_a_network_that_never_returns_can_be_interrupted(served: dict[str, str], tmp_path: Path) -> None:
    spec = world(tmp_path / "world")
    torch.jit.script(Endless()).save(spec.parent / "g.pt")
    program = forked(("check", spec), served, tmp_path)
    wait_until(lambda: _is_busy(program.pid), 60, program.log)
    os.kill(program.pid, signal.SIGINT)
    assert program.wait(60) == 130 and program.stderr.read_text().endswith("reds: interrupted\n"), program.log()


def _is_busy(pid: int) -> bool:
    """Returns whether a fork, which has its imports, has computed for a while: it is inside its network then."""
    used = sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
    return used > 2 * os.sysconf("SC_CLK_TCK")


def test_a_home_without_room_is_named(small_disk: Path) -> None:
    with pytest.raises(UserError, match=r"the disk is full.*REDS_PREFECT_HOME"), first_start(small_disk / "home"):
        pass


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot be written: .*REDS_PREFECT_HOME"), first_start(tmp_path / "file" / "home"):
        pass


def test_a_server_may_be_named_by_a_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "profiles.toml").write_text('active = "mine"\n[profiles.mine]\nPREFECT_API_URL = "http://127.0.0.1:9/api"\n')
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    assert prefect_env.set_environment() == "http://127.0.0.1:9/api"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "127.0.0.1,localhost,::1"),
        ("intra.net, localhost", "intra.net,localhost,127.0.0.1,::1"),
        ("*", "*"),
    ],
)
def test_no_proxy_is_asked_for_this_machine(before: str, after: str) -> None:
    assert prefect_env.without_proxy(before) == after


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "nonsense://127.0.0.1:9"])
def test_a_proxy_that_no_client_can_be_made_with_is_named(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("all_proxy", proxy)
    monkeypatch.setitem(sys.modules, "socksio", None)
    with pytest.raises(UserError, match=r"the proxy in all_proxy.* cannot be used: .*; unset it, correct it"):
        prefect_env.connect("")


class Greeting(BaseHTTPRequestHandler):
    """Answers everything with a page, as a web server of another kind does."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>hello</html>")

    def log_message(self, *_: Any) -> None: ...


def test_a_web_server_that_is_no_prefect_server_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Greeting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/api"
        monkeypatch.setenv("PREFECT_API_URL", url)
        try:
            with pytest.raises(UserError, match=f"no Prefect server answers at PREFECT_API_URL, {url}"):
                prefect_env.connect(url)
        finally:
            server.shutdown()
            monkeypatch.undo()
            refresh_global_settings_context()
