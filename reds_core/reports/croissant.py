"""croissant.json and samples.parquet: a run's folder as a data set that programs understand (Croissant 1.0, MLCommons).

Every tar is a file object with its hash; the images in all of them are one file set. Labels and figures come from samples.parquet,
which has a row for every sample of the finished shards and is joined to the images by key: the format's own tools cannot read the
JSON files inside the tars.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from reds_core.reports.summary import Summary
from reds_core.runs.manifest import read_manifests
from reds_core.runs.samples import MEDIA_TYPES
from reds_core.runs.table import FLAG, INTEGER, REAL, TEXT, as_table, schema_of
from reds_core.spec.fields import Spec
from reds_core.storage.folder import hash_of
from reds_core.types import key_of

TABLE = "samples.parquet"
NAME = "croissant.json"
TYPES = {TEXT: "sc:Text", INTEGER: "sc:Integer", REAL: "sc:Float", FLAG: "sc:Boolean"}
# The format's terms, which a reader looks up in the context.
TERMS = (
    "column", "extract", "field", "fileObject", "fileProperty", "fileSet", "includes", "key", "path", "recordSet", "references",
    "regex", "source", "transform",
)  # fmt: skip
CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    **{term: f"cr:{term}" for term in TERMS},
}


def write_croissant(s: Summary) -> None:
    """Writes both files into a run's folder, or neither if no shard is finished."""
    columns = _write_table(s)
    if columns:
        text = json.dumps(described(s, columns, hash_of(s.folder.path / TABLE)), indent=1, ensure_ascii=False)
        s.folder.write(NAME, text.encode())


def _write_table(s: Summary) -> dict[str, str]:
    """Writes samples.parquet, a shard at a time, and returns the Croissant types of its columns by name."""
    schema, manifests = _schema(s.spec), list(read_manifests(s.folder))
    if not manifests:
        return {}
    with s.folder.drafts([TABLE]) as parts:
        with pq.ParquetWriter(parts[TABLE], schema, compression="zstd") as writer:
            for manifest in manifests:
                rows = _samples(pd.read_parquet(s.folder.path / f"{manifest.stem}.parquet"), s.spec)
                writer.write_table(as_table(rows, schema))
        s.folder.send(parts[TABLE], TABLE)
    return {column.name: TYPES[column.type] for column in schema}


def _schema(spec: Spec) -> pa.Schema:
    """Returns the columns of samples.parquet: those of a shard's table without the verdict, and the group."""
    columns = [column for column in schema_of(spec) if column.name not in ("accepted", "reason")]
    return pa.schema([columns[0], pa.field("group", TEXT), *columns[1:]])


def _samples(candidates: pd.DataFrame, spec: Spec) -> pd.DataFrame:
    """Returns the samples of a shard's table, with the group that a split must not cut and without the columns of the verdict."""
    rows = candidates[candidates.accepted].drop(columns=["accepted", "reason"])
    # Shards of before own images could be varied do not name them, and those of before decisions could be held have no tolerances;
    # in a run that goes on, all tables must be alike.
    if "source" not in rows:
        rows = rows.assign(source="", fit=0.0)
    for name, tolerance in spec.levels.items():
        if f"tolerance_{name}" not in rows:
            rows = rows.assign(**{f"tolerance_{name}": float(tolerance)})
    return rows.assign(group=[key_of(int(seed)) for seed in rows.seed])


def described(s: Summary, columns: dict[str, str], table_sha256: str) -> dict[str, Any]:
    """Returns the description as JSON-LD.

    Args:
        columns: the Croissant types of the columns of samples.parquet, by name.
        table_sha256: the hash of samples.parquet.
    """
    image = s.spec.shards.image
    tars = [{"name": f"{m.stem}.tar", "sha256": m.sha256, "bytes": m.bytes} for m in read_manifests(s.folder) if m.bytes]
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": s.spec.name,
        "description": f"{s.headline}; README.md beside this file says how they were made.",
        "license": "other",
        "version": "1.0.0",
        "distribution": [*_files(tars, image), _file(TABLE, "application/x-parquet", table_sha256)],
        "recordSet": [_table_records(columns, s.spec), _sample_records(columns)],
    }


def _table_records(columns: dict[str, str], spec: Spec) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "table",
        "name": "table",
        "key": {"@id": "table/key"},
        "field": [
            _field("table", name, kind, {"fileObject": {"@id": TABLE}, "extract": {"column": name}}) | _meaning(name, spec)
            for name, kind in columns.items()
        ],
    }


def _meaning(column: str, spec: Spec) -> dict[str, str]:
    """Returns the description of a column of figures; none of another one."""
    what, _, name = column.partition("_")
    if what in ("drift", "tolerance") and name in spec.decisions:
        meanings = {"drift": "the probability that the label lost", "tolerance": "the probability that the label may lose"}
        return {"description": f"{name}: {meanings[what]}, as a decision is held"}
    if name not in spec.held and name not in spec.varied:
        return {}
    kinds = {"drift": "the drift", "tolerance": "the largest drift allowed", "effect": "the effect"}
    return {"description": f"{name}: {kinds[what]}, in spreads"} if what in kinds else {}


def _sample_records(columns: dict[str, str]) -> dict[str, Any]:
    # A member's name up to its first dot is its sample's key.
    key = _field("samples", "key", "sc:Text", _in_images("filename") | {"transform": {"regex": "^([^.]+)"}})
    return {
        "@type": "cr:RecordSet",
        "@id": "samples",
        "name": "samples",
        "field": [
            key | {"references": {"field": {"@id": "table/key"}}},
            _field("samples", "image", "sc:ImageObject", _in_images("content")),
            *(_field("samples", n, kind, {"field": {"@id": f"table/{n}"}}) for n, kind in columns.items() if n != "key"),
        ],
    }


def _files(tars: list[dict[str, Any]], image: str) -> Iterator[dict[str, Any]]:
    for tar in tars:
        yield _file(tar["name"], "application/x-tar", tar["sha256"]) | {"contentSize": f"{tar['bytes']} B"}
    yield {
        "@type": "cr:FileSet", "@id": "images", "name": "images", "containedIn": [{"@id": tar["name"]} for tar in tars],
        "encodingFormat": MEDIA_TYPES[image], "includes": f"*.{image}",
    }  # fmt: skip


def _file(name: str, media: str, sha256: str) -> dict[str, Any]:
    return {"@type": "cr:FileObject", "@id": name, "name": name, "contentUrl": name, "encodingFormat": media, "sha256": sha256}


def _field(record: str, name: str, kind: str, source: dict[str, Any]) -> dict[str, Any]:
    return {"@type": "cr:Field", "@id": f"{record}/{name}", "name": name, "dataType": kind, "source": source}


def _in_images(what: str) -> dict[str, Any]:
    return {"fileSet": {"@id": "images"}, "extract": {"fileProperty": what}}
