"""A shard's table: a row for every candidate, accepted or rejected, with its verdict and figures.

Columns and their types follow from the spec alone. If they followed from the rows, a shard that accepts nothing, or holds nothing,
would have a table that does not go with those of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from reds_core.runs.samples import row_of
from reds_core.spec.fields import Spec
from reds_core.types import Candidate

TEXT, INTEGER, REAL, FLAG = pa.large_string(), pa.int64(), pa.float64(), pa.bool_()
COLUMNS = {
    "key": TEXT, "role": TEXT, "seed": INTEGER, "direction": INTEGER, "sign": INTEGER, "waypoint": INTEGER, "accepted": FLAG,
    "reason": TEXT, "label": INTEGER, "label_name": TEXT, "condition": INTEGER, "judge_label": INTEGER, "judge_confidence": REAL,
    "judge_agrees": FLAG, "source": TEXT, "fit": REAL,
}  # fmt: skip


def schema_of(spec: Spec) -> pa.Schema:
    """Returns the columns of a run's tables, in order, with their types."""
    figures = [f"{what}_{name}" for what, names in _figures(spec) for name in names]
    return pa.schema([*COLUMNS.items(), *((name, REAL) for name in figures)])


def _figures(spec: Spec) -> list[tuple[str, list[str]]]:
    return [("drift", list(spec.held)), ("effect", list(spec.varied)), ("tolerance", list(spec.held))]


def as_table(rows: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    """Returns rows with the columns of a schema, whatever their order and their types, as long as the values fit."""
    return pa.Table.from_pandas(rows, schema=schema, preserve_index=False)


def write_table(file: IO[bytes], candidates: Sequence[Candidate], spec: Spec) -> None:
    """Writes the table of a shard's candidates."""
    schema = schema_of(spec)
    rows = pd.DataFrame([row_of(c) for c in candidates], columns=schema.names)
    pq.write_table(as_table(rows, schema), file, compression="zstd")
