"""The dataset card: README.md of a run's folder, with the front matter that the Hugging Face hub reads."""

from __future__ import annotations

import yaml

from reds_core.reports.summary import Summary
from reds_core.spec.load import dump

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10_000_000, "1M<n<10M"))

TEXT = """
# {name}

{accepted:,} verified variants of {seeds:,} generated seeds, in {shards:,} WebDataset shards ({samples:,} samples with the seeds' own images).
Made by REDs Augment {version}: trajectories through the latent space of the generator `{generator}` along which the held attributes
stay and the varied ones change; every variant was measured on the image as stored.{partial}

## What was held and varied

A *drift* or *effect* is the distance of a variant to its seed in *spreads*: 0 is identical, 1 is as different as two unrelated images.

| attribute | role | limit | median of accepted | spread | feature |
|---|---|---|---|---|---|
{attributes}

Of {candidates:,} candidates {share:.0%} were accepted. {judge}

## Labels

{labels}

## Loading

```python
import webdataset as wds
data = wds.WebDataset("shard-{{00000..{last:05d}}}.tar", shardshuffle=False).decode("pil").to_tuple("{image}", "{label_file}", "json")
```

```python
from datasets import load_dataset
data = load_dataset("webdataset", data_files="shard-*.tar", split="train")
```

Each sample holds the image, {cls}`.json` (labels, drifts, effects, the judge's decision, where it comes from) and `.latent.npy`.
**Split by `group`** in the `.json`, never by sample: variants of one seed look alike, and must not be on both sides of a split.
The `shard-*.parquet` tables have a row for every candidate, the rejected ones with their reasons.

## Limits

- Drift is what the held features measure. What they cannot see was not held.
- The images are generated: they repeat what the generator learnt, its faults and its biases included.
- The licence is that of the generator's weights and of the data that they were trained on; state it above before publishing.

## The spec

```yaml
{spec}```
"""


def card(s: Summary) -> str:
    """The card as Markdown."""
    size = next((name for most, name in SIZES if s.totals.samples < most), "n>10M")
    front = {
        "license": "other",
        "pretty_name": s.spec.name,
        "task_categories": ["image-classification"] if s.spec.label != "none" else ["unconditional-image-generation"],
        "tags": ["webdataset", "synthetic", "data-augmentation", "gan"],
        "size_categories": [size],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "shard-*.tar"}]}],
    }
    rows = []
    for a in s.attributes:
        limit = f"drift <= {a.limit:g}" if a.role == "held" else f"effect >= {a.limit:g}"
        kind = s.spec.attributes[a.name].kind
        rows.append(f"| {a.name} | {a.role} | {limit} | {a.accepted.quantile(0.5):.3f} | {a.spread:.4g} | {kind} |")
    labels = [f"| {name} | {count:,} |" for name, count in sorted(s.totals.labels.items())]
    judge = "There was no independent judge."
    if s.judged:
        judge = f"An independent judge agreed with the label on {s.agreed / s.judged:.1%} of them before any filter, and on all accepted."
    text = TEXT.format(
        name=s.spec.name, accepted=s.totals.accepted, seeds=s.seeds, shards=s.totals.shards, samples=s.totals.samples,
        version=s.versions.get("reds", ""), generator=_generator(s), attributes="\n".join(rows),
        candidates=s.totals.candidates, share=s.share, judge=judge, last=max(0, s.totals.shards - 1), image=s.spec.shards.image,
        labels="\n".join(["| label | samples |", "|---|---|", *labels]) if labels else "The samples have no labels.",
        label_file="cls" if s.spec.label != "none" else "latent.npy",
        cls="its label index (`.cls`), " if s.spec.label != "none" else "", spec=dump(s.spec),
        partial=f"\n\n**Partial: {s.progress} are finished.**" if s.progress else "",
    )  # fmt: skip
    return f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n{text}"


def _generator(s: Summary) -> str:
    generator = s.spec.generator
    return getattr(generator, "name", None) or getattr(generator, "target", None) or str(getattr(generator, "path", generator.kind))
