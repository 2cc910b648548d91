"""index.parquet, a row for every sample, and README.md, the dataset card that the Hugging Face hub reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from reds_core.exports.manifest import Export
from reds_core.exports.plan import Plan
from reds_core.reports.card import SIZES
from reds_core.reports.render import render
from reds_core.storage.local import synced

SCHEMA = pa.schema([
    ("key", pa.string()), ("split", pa.string()), ("file", pa.string()), ("label", pa.int64()), ("label_name", pa.string()),
    ("role", pa.string()), ("seed", pa.int64()), ("group", pa.string()), ("source", pa.string()), ("run", pa.string()),
    ("spec", pa.string()), ("sha256", pa.string()),
])  # fmt: skip
ROWS_AT_ONCE = 20_000
TYPES = {bool: "bool", int: "int64", float: "float64", str: "string"}


def write_index(path: Path, rows: pd.DataFrame, specs: Mapping[str, str]) -> None:
    """Writes a row for every sample, in the order of the files.

    Args:
        path: of the new file.
        rows: from `placed`.
        specs: the names of the runs' specs by digest.
    """
    with synced(path) as file, pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
        for at in range(0, len(rows), ROWS_AT_ONCE):
            part = rows.iloc[at : at + ROWS_AT_ONCE]
            part = part.assign(run=part.digest, spec=part.digest.map(specs))
            writer.write_table(pa.Table.from_pandas(part[SCHEMA.names], SCHEMA, preserve_index=False))


def card(plan: Plan, said: Export) -> str:
    """Returns the card as Markdown.

    Args:
        plan: what was chosen, and from what.
        said: what `export.json` says, with the splits' sizes.
    """
    runs, is_tars = list({run.digest: run for run in plan.index.runs}.values()), plan.request.format == "webdataset"
    labelled = -1 not in plan.names
    splits = {name: size for name, size in said.splits.items() if size.samples}
    files = [{"split": name.replace("-", "_"), "path": f"{name}-?????.tar" if is_tars else f"{name}/**"} for name in splits]
    front: dict[str, Any] = {
        "license": licence(plan),
        "pretty_name": " and ".join(sorted({run.spec.name for run in runs})),
        "task_categories": ["image-classification"] if labelled else ["unconditional-image-generation"],
        "tags": [*(["webdataset"] if is_tars else []), "synthetic", "data-augmentation", "gan"],
        "size_categories": [next((name for most, name in SIZES if len(plan.rows) < most), "n>10M")],
        "configs": [{"config_name": "default", "data_files": files}],
    }
    if is_tars:
        front["dataset_info"] = {"features": features(said.image, labelled, plan.index.examples)}
    counts = plan.counts.assign(name=[plan.names[label] or "no label" for label in plan.counts.index])
    return render("reds_core.exports", "card.md.j2", {
        "plan": plan, "said": said, "runs": runs, "is_tars": is_tars, "labelled": labelled, "splits": splits,
        "first": next(iter(splits)), "asked": said.asked, "shape": plan.index.shape,
        "roles": plan.rows.role.value_counts().sort_index(), "groups": plan.rows.group.nunique(),
        "generators": sorted({example["generator"] for example in plan.index.examples}),
        "counts": counts.to_dict("records"), "front": yaml.safe_dump(front, sort_keys=False, allow_unicode=True),
    })  # fmt: skip


def licence(plan: Plan) -> str:
    """Returns the licence that all runs' cards state, "other" if they differ or state none."""
    found = {run.licence for run in plan.index.runs}
    return found.pop() if len(found) == 1 else "other"


def features(image: str, labelled: bool, examples: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the columns of a tar's samples as the Hugging Face loader wants them told.

    It would take them from the first five samples, and drop what only other runs' samples have.

    Args:
        image: the extension of the images.
        labelled: whether there are `.cls` files.
        examples: a `.json` of each run.
    """
    columns: list[dict[str, Any]] = [{"name": "cls", "dtype": "int64"}] if labelled else []
    columns += [{"name": "json", "struct": _struct(examples)}, {"name": "latent.npy", "sequence": "float32"}]
    columns += [{"name": image, "dtype": "image"}, {"name": "__key__", "dtype": "string"}, {"name": "__url__", "dtype": "string"}]
    return columns


def _struct(examples: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the fields that any of the examples has."""
    columns = []
    for name in dict.fromkeys(name for example in examples for name in example):
        values = [example[name] for example in examples if name in example]
        if isinstance(values[0], dict):
            columns.append({"name": name, "struct": _struct(values)})
        else:
            columns.append({"name": name, "dtype": TYPES.get(type(values[0]), "string")})
    return columns
