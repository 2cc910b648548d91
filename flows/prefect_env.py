"""Prefect's environment where nobody has set one up: a quiet API that this process starts, with a home of its own.

Call `set_environment` before a flow is imported: Prefect reads its settings then.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from flows.embedded_api import CURE, started
from reds_core.errors import RunError, UserError, described
from reds_core.storage.disk import writing

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # The program prints what matters itself; Prefect would add a traceback for every mistake in a spec.
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_SHOW_WELCOME_MESSAGE": "false",
}
LOOPBACK = ("127.0.0.1", "localhost", "::1")
PROXIES = ("http_proxy", "https_proxy", "all_proxy")
TRIES, PATIENCE = 2, 10.0  # further tries to reach a server, and the seconds of each


def set_environment() -> str:
    """Sets the variables that the user has not set. Returns the URL of the server to use; "" where the API is to be embedded.

    Raises:
        UserError: there is no home to keep the embedded API in, or Prefect's settings cannot be read.
    """
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = without_proxy(os.environ.get(name) or os.environ.get(name.swapcase(), ""))
    for key, value in QUIET.items():
        os.environ.setdefault(key, value)
    url = _server()
    if not url:
        os.environ.setdefault("PREFECT_HOME", str(home()))
    return url


def without_proxy(hosts: str) -> str:
    """Returns a list of hosts that no proxy is asked for, with this machine among them."""
    named = [host.strip() for host in hosts.split(",") if host.strip()]
    return hosts if "*" in named else ",".join(named + [host for host in LOOPBACK if host not in named])


def _server() -> str:
    """Returns the URL of the server that Prefect's settings name, by a variable, a profile, or a file beside the user's work."""
    if os.environ.get("PREFECT_API_URL"):
        return os.environ["PREFECT_API_URL"]
    try:
        (Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser() / "profiles.toml").is_file()
    except (OSError, RuntimeError):  # there is no such home, or not for this user: Prefect would not even be imported
        with writing(home(), CURE, parameter=""):
            home().mkdir(parents=True, exist_ok=True)
        os.environ["PREFECT_HOME"] = str(home())
    try:
        from prefect.settings import Settings

        return Settings().api.url or ""
    except ValueError as error:
        raise UserError(f"Prefect's settings cannot be read: {described(error)}; correct them") from error


def home() -> Path:
    """Returns where the embedded API keeps its database: $REDS_PREFECT_HOME, or a folder in the user's cache."""
    if os.environ.get("REDS_PREFECT_HOME"):
        return Path(os.environ["REDS_PREFECT_HOME"])
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError as error:
        raise UserError("this user has no home; name a folder for Prefect's database in REDS_PREFECT_HOME") from error
    return cache / "reds" / "prefect"


def connect(url: str) -> None:
    """Starts the embedded API if `url` is "", or greets the server there.

    Raises:
        UserError: the API does not come up, or nobody answers, or not as a Prefect server does.
    """
    from prefect.context import refresh_global_settings_context

    _check_proxies()
    if not url:
        os.environ["PREFECT_API_URL"] = started(Path(os.environ["PREFECT_HOME"]))
        refresh_global_settings_context()
        return
    refresh_global_settings_context()
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    where = "" if os.environ.get("PREFECT_API_URL") else ", which a profile or a file sets (`prefect config view --show-sources`)"
    try:
        # Prefect's own five tries take minutes where an address swallows them.
        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: TRIES}),
            get_client(sync_client=True, httpx_settings={"timeout": PATIENCE}) as client,
        ):
            client.hello()
            client.api_version()  # any web server may answer a greeting
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, RuntimeError) as error:
        raise UserError(
            f"no Prefect server answers at PREFECT_API_URL, {url}{where}: {described(error)}; "
            "start one with `prefect server start`, or correct the address"
        ) from error


def _check_proxies() -> None:
    """Raises UserError for a proxy that Prefect's client cannot even be made with, whether or not it would be asked."""
    import httpx

    try:
        httpx.Client().close()
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        named = ", ".join(sorted(name for name in os.environ if name.lower() in PROXIES and os.environ[name]))
        raise UserError(
            f"the proxy in {named or 'the environment'} cannot be used: {described(error)}; unset it, correct it, or for SOCKS "
            "install socksio"
        ) from error


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Turns what a flow raises if the API fails while it runs into RunError."""
    import httpx

    try:
        yield
    except httpx.HTTPError as error:
        raise RunError(
            f"Prefect's API at {os.environ.get('PREFECT_API_URL', 'its address')} failed during the run: {described(error)}. "
            "Finished shards are kept; run again"
        ) from error
