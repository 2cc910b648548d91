"""What people watch in Prefect's UI: progress; at the end the totals as a table, the contact sheet, and a link to the report."""

from __future__ import annotations

import base64
import contextlib
import logging
import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import httpx
from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.exceptions import PrefectException

from reds_core.reports.picture import picture
from reds_core.reports.summary import Summary

log = logging.getLogger(__name__)


@contextlib.contextmanager
def _only_shown() -> Iterator[None]:
    """Logs what the server does not take: a run must not end because nobody can watch it."""
    try:
        yield
    except (httpx.HTTPError, PrefectException) as error:
        log.warning("the Prefect server does not show this: %s", error or type(error).__name__)


class ProgressArtifact:
    """A progress bar: the share of a run's shards that is finished, in percent."""

    def __init__(self, name: str, todo: int) -> None:
        self.todo, self.done = todo, 0
        self.id: UUID | None = None
        text = f"Shards of {name} that are finished, of {todo}"
        with _only_shown():
            found: Any = create_progress_artifact(0.0, key=_key("progress", name), description=text)
            self.id = found

    def step(self) -> None:
        """Counts one more shard. The server is told whole percents only: an update costs it more than the rest of a task."""
        before, self.done = 100 * self.done // self.todo, self.done + 1
        if self.id and 100 * self.done // self.todo > before:
            with _only_shown():
                update_progress_artifact(self.id, 100 * self.done / self.todo)


@_only_shown()
def show(s: Summary, report: str) -> None:
    """Creates the artifacts of a finished run."""
    name = s.spec.name
    create_table_artifact(key=_key("totals", name), table=[totals_row(s)], description=f"Totals of {name}")
    link = s.home.url("report.html")
    create_link_artifact(key=_key("report", name), link=link, link_text=report, description=f"Report of {name}")
    if s.totals.accepted:
        data = base64.b64encode(picture(s)).decode()  # some kilobytes: the server refuses what is large
        create_image_artifact(
            key=_key("sheet", name),
            image_url=f"data:image/webp;base64,{data}",
            description=f"Seeds of {name}" + (", and verified variants" if s.spec.walks else ""),
        )


def totals_row(s: Summary) -> dict[str, Any]:
    """Returns a run's figures by name: how much, how well, how fast, at what cost."""
    t = s.totals
    return {
        "shards": t.shards, "seeds": t.seeds, "samples": t.samples, "accepted": t.accepted, "accepted share": round(t.share, 4),
        **{
            f"{a.name}, {_what(a.role)} (median)": round(a.accepted.quantile(0.5), 4)
            for a in s.attributes
            if a.accepted.counts.any()
        },
        "accepted a second": round(t.accepted / t.seconds, 2) if t.seconds else 0.0,
        "equivalents per accepted": round(t.passes.equivalents / max(1, t.accepted), 1),
        "MB": round(t.bytes / 1e6, 2), "seconds": round(t.seconds, 1),
    }  # fmt: skip


def _what(role: str) -> str:
    return "drift" if role == "held" else "effect"


def _key(what: str, name: str) -> str:
    """Returns an artifact's key: Prefect takes lower-case letters, digits and dashes only."""
    return re.sub(r"[^a-z0-9]+", "-", f"augment-{what}-{name}".lower()).strip("-")
