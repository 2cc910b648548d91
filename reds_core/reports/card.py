"""The dataset card: the README.md of a run's folder, with the front matter that the Hugging Face hub reads."""

from __future__ import annotations

import yaml

from reds_core.reports.render import render
from reds_core.reports.summary import Summary
from reds_core.spec.load import dump

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10_000_000, "1M<n<10M"))


def card(s: Summary) -> str:
    """Returns the card as Markdown."""
    labelled = s.spec.label != "none"
    front = {
        "license": "other",
        "pretty_name": s.spec.name,
        "task_categories": ["image-classification"] if labelled else ["unconditional-image-generation"],
        "tags": ["webdataset", "synthetic", "data-augmentation", "gan"],
        "size_categories": [next((name for most, name in SIZES if s.totals.samples < most), "n>10M")],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "shard-*.tar"}]}],
    }
    return render("reds_core.reports", "card.md.j2", {
        "s": s, "spec": s.spec, "totals": s.totals, "labelled": labelled, "generator": _generator(s), "yaml": dump(s.spec),
        "front": yaml.safe_dump(front, sort_keys=False),
    })  # fmt: skip


def _generator(s: Summary) -> str:
    generator = s.spec.generator
    return getattr(generator, "name", None) or getattr(generator, "target", None) or str(getattr(generator, "path", generator.kind))
