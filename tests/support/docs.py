"""The README and the pages in docs/, taken apart: blocks of code, prose, tables, links; and the command lines in them.

A block's mark is the HTML comment on the line before it: `<!-- fragment -->` for a part of a spec, `<!-- run -->` for Python that
tests run.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support import ROOT

FENCE = re.compile(r"(?:^<!-- (?P<mark>[^\n]+) -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)\n```$", re.M | re.S)
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.M)


@dataclass(frozen=True)
class Page:
    """A page of the documentation."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @property
    def bare(self) -> str:
        """Returns the text without blocks of code."""
        return FENCE.sub("", self.text)

    def blocks(self) -> list[Block]:
        """Returns the fenced blocks, in order."""
        text = self.text
        return [
            Block(self, text.count("\n", 0, m.start()) + 1, m["language"], m["mark"] or "", m["text"]) for m in FENCE.finditer(text)
        ]

    def anchors(self) -> set[str]:
        """Returns the anchors of its headings, as GitHub makes them."""
        return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in HEADING.findall(self.bare)}

    def links(self) -> list[str]:
        return LINK.findall(self.bare)

    def codes(self) -> list[str]:
        """Returns what stands between backticks in prose and tables."""
        return CODE.findall(self.bare)

    def section(self, heading: str) -> str:
        """Returns the text from a heading to the next one of its level or above. Raises LookupError if there is no such heading."""
        found = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^#{{1,{heading.index(' ')}}} |\Z)", self.text, re.M | re.S)
        if not found:
            raise LookupError(f"{self.name} has no heading {heading!r}")
        return found[1]


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Page
    line: int
    language: str
    mark: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"

    def commands(self) -> Iterator[list[str]]:
        """Yields the commands of a shell block as words, without the variables set in front of them."""
        for line in self.text.replace("\\\n", " ").splitlines():
            words: list[str] = []
            for word in [*_words(line), "&&"]:
                if word == "&&":
                    yield from [words] if words else []
                    words = []
                elif words or not re.match(r"[A-Z_]+=", word):
                    words.append(word)


def _words(line: str) -> list[str]:
    return shlex.split(line, comments=True)


README, CHANGELOG, CONTRIBUTING = (Page(ROOT / name) for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md"))
PAGES = [README, CHANGELOG, CONTRIBUTING, *map(Page, sorted((ROOT / "docs").glob("*.md")))]


def page(name: str) -> Page:
    """Returns a page of docs/ by its name."""
    return Page(ROOT / "docs" / f"{name}.md")


def blocks(*languages: str) -> list[Block]:
    """Returns every block in one of the languages."""
    return [block for p in PAGES for block in p.blocks() if block.language in languages]
