"""Pages from templates: the words of a page stand in a file of `templates/`, its figures come as values.

A template whose name ends in `.html.j2` escapes every value; only `Markup` passes as it is. A Markdown template escapes a value
that goes through `|inline`. A missing value is an error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from reds_core.words import counted

MARKDOWN = re.compile(r"([\\|<])")  # what would end a table's cell, or be taken for HTML
TICKS = re.compile("`{3,}")


def render(package: str, name: str, values: Mapping[str, object]) -> str:
    """Returns the text of a template of a package's `templates` folder."""
    return _environment(package).get_template(name).render(values)


@cache
def _environment(package: str) -> Environment:
    environment = Environment(
        loader=PackageLoader(package),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"number": number, "thousands": thousands, "of": counted, "inline": inline, "fence": fence}
    return environment


def number(value: float, form: str = ".3f") -> str:
    """Formats a number, or returns a dash where nothing was measured."""
    return format(value, form) if math.isfinite(value) else "\N{EN DASH}"


def thousands(count: int) -> str:
    """Formats a count with commas between thousands."""
    return f"{count:,}"


def inline(text: str) -> str:
    """Escapes a text for Markdown, so that it stays on its line and in its cell of a table."""
    return MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def fence(text: str) -> str:
    """Returns the backticks that open and close a code block around a text which may hold backticks itself."""
    return "`" * max([3, *(len(run) + 1 for run in TICKS.findall(text))])
