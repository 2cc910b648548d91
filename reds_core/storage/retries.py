"""Calls to a store, tried again after growing pauses while that may help; what its client raises becomes a StorageError."""

from __future__ import annotations

import errno
import logging
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

import tenacity

from reds_core.errors import OutputError, RedsError, StorageError
from reds_core.storage.disk import is_full

FIRST_PAUSE = 0.5  # seconds; later ones are longer, and all are drawn at random
# Parts of the names of clients' exceptions which say that the credentials are missing or wrong.
REFUSED = (
    "NoCredentials",
    "PartialCredentials",
    "DefaultCredentials",
    "RefreshError",
    "TokenRetrieval",
    "ParamValidation",
    "ProfileNotFound",
)
WRONG_TOKENS = ("InvalidToken", "TokenRefreshRequired")  # S3's codes for credentials which are no PermissionError of its client
# S3's codes for a bucket, a region or an address with which no try can succeed.
MISPLACED = (
    "AuthorizationHeaderMalformed",
    "InvalidBucketName",
    "InvalidURI",
    "KeyTooLongError",
    "MethodNotAllowed",
    "PermanentRedirect",
)
SILENT = 3.0  # seconds without an answer after which a person is told
log = logging.getLogger(__name__)


def retried(seconds: float, folder: str, call: Callable[[], Any]) -> Any:
    """Returns what a call to a store returns, trying again for some time while that may help.

    Args:
        seconds: after which the call is not tried again.
        folder: what messages name.
        call: the call.

    Raises:
        FileNotFoundError, FileExistsError: as the store's client raises them.
        StorageError: everything else. OutputError: this kind of storage cannot be written to.
    """
    again = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_may_pass),
        wait=tenacity.wait_random_exponential(multiplier=FIRST_PAUSE, max=20),
        stop=tenacity.stop_after_delay(seconds),
        before_sleep=partial(_say, folder, seconds),
        reraise=True,
    )
    try:
        return again(call)
    except (RedsError, FileNotFoundError, FileExistsError):
        raise
    except NotImplementedError as error:
        raise OutputError(f"{folder}: this kind of storage cannot hold runs: {error or 'it cannot be written to'}") from error
    # Every store's client raises whatever it likes; in any case, the store did not do what was asked.
    except Exception as error:
        if is_full(error):
            raise StorageError(
                f"the disk is full: {tempfile.gettempdir()}. What is finished is kept; make room and run again"
            ) from error
        raise StorageError(f"{folder}: {reason(error)}. What is finished is kept; {_cure(error)}") from error


def _say(folder: str, seconds: float, state: tenacity.RetryCallState) -> None:
    """Logs why nothing happens."""
    error = state.outcome.exception() if state.outcome else None
    waits = state.attempt_number > 2 or (state.seconds_since_start or 0) > SILENT
    level = logging.WARNING if waits else logging.INFO  # a store that fails once or twice is common
    log.log(level, "%s: %s; trying again, for %g minutes at the most", folder, reason(error), seconds / 60)


def reason(error: BaseException | None) -> str:
    """Returns what a store's client says, as a part of a sentence."""
    return str(error).strip().rstrip(".") or type(error).__name__


def is_refusal(error: BaseException | None) -> bool:
    """Returns whether a store's client said that this user may not, or that it does not know who is asking."""
    # An S3 server answers a HEAD with an expired token by this, and may not say why.
    bare = isinstance(error, OSError) and error.errno == errno.EINVAL and error.strerror == "Bad Request"
    return (
        bare
        or isinstance(error, PermissionError)
        or _code(error) in WRONG_TOKENS
        or any(name in type(error).__name__ for name in REFUSED)
    )


def is_misplaced(error: BaseException | None) -> bool:
    """Returns whether a store's client cannot use its address, the bucket's name or its region, whenever it is asked."""
    # A client says so of an address by a plain ValueError; what it cannot read of an answer is one of its kinds.
    return type(error) is ValueError or _code(error) in MISPLACED


def _code(error: BaseException | None) -> str:
    """Returns the store's own code of an error, "" if its client does not tell."""
    response = getattr(error.__cause__, "response", None) if error else None
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _may_pass(error: BaseException) -> bool:
    """Returns whether another try may succeed."""
    for_good = (
        RedsError,
        FileNotFoundError,
        FileExistsError,
        IsADirectoryError,
        NotADirectoryError,
        NotImplementedError,
        TypeError,
    )
    if not isinstance(error, Exception) or isinstance(error, for_good):
        return False
    return not (is_refusal(error) or is_misplaced(error) or is_full(error))


def _cure(error: Exception) -> str:
    if is_misplaced(error):
        return "correct the store's address, its region or the bucket's name, and run again"
    return "renew the credentials, or ask for access, and run again" if is_refusal(error) else "run again when the store answers"
