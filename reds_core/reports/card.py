"""The dataset card: the README.md of a run's folder, with the front matter that the Hugging Face hub reads."""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from reds_core.reports.render import render
from reds_core.reports.summary import Summary
from reds_core.runs.manifest import read_manifests, stem
from reds_core.spec.load import dump

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10_000_000, "1M<n<10M"))


def card(s: Summary) -> str:
    """Returns the card as Markdown."""
    labelled = s.spec.label != "none"
    tars = [m.index for m in read_manifests(s.folder) if m.bytes]
    front: dict[str, object] = {
        "license": "other",
        "pretty_name": s.spec.name,
        "task_categories": ["image-classification"] if labelled else ["unconditional-image-generation"],
        "tags": ["webdataset", "synthetic", "data-augmentation", "gan"],
        "size_categories": [next((name for most, name in SIZES if s.totals.samples < most), "n>10M")],
    }
    if tars:
        front["configs"] = [{"config_name": "default", "data_files": [{"split": "train", "path": "shard-*.tar"}]}]
    return render("reds_core.reports", "card.md.j2", {
        "s": s, "spec": s.spec, "totals": s.totals, "labelled": labelled, "generator": _generator(s), "yaml": dump(s.spec),
        "braces": in_braces(tars), "without_tar": s.totals.shards - len(tars),
        "front": yaml.safe_dump(front, sort_keys=False),
    })  # fmt: skip


def in_braces(finished: Sequence[int]) -> str:
    """Returns the tars of shards, in order, as what braces expand to; "" without any: no reader finds those that were not made."""
    ranges: list[list[int]] = []
    for index in finished:
        # Numbers of other lengths would be padded to one.
        if ranges and index == ranges[-1][-1] + 1 and len(stem(index)) == len(stem(index - 1)):
            ranges[-1][1:] = [index]
        else:
            ranges.append([index])
    numbers = ["..".join(stem(index).removeprefix("shard-") for index in ends) for ends in ranges]
    parts = [f"{{{ends}}}" if ".." in ends else ends for ends in numbers]
    if not parts:
        return ""
    return f"shard-{parts[0]}.tar" if len(parts) == 1 else f"shard-{{{','.join(parts)}}}.tar"


def _generator(s: Summary) -> str:
    generator = s.spec.generator
    return getattr(generator, "name", None) or getattr(generator, "target", None) or str(getattr(generator, "path", generator.kind))
