"""Mistakes that are found before anything slow starts: in a spec, in its files, in the name of a folder."""

from __future__ import annotations

import sys
from pathlib import Path

from flows.parameters import checked_spec, make_importable
from reds_core.errors import ModelError, OutputError, UserError
from reds_core.runs.manifest import indices
from reds_core.spec.fields import Spec
from reds_core.spec.files import check_code, check_files, check_present
from reds_core.spec.load import load_spec
from reds_core.spec.problems import doubts
from reds_core.storage.folder import Folder
from reds_core.storage.places import folder_at
from reds_core.words import counted


def checked(path: Path, overrides: list[str], allow_code: bool) -> Spec:
    """Returns the spec, all of its files present. Raises SpecError or ModelError; warns of what is doubtful."""
    spec = checked_spec(path, overrides, allow_code)
    _tell_doubts(spec)
    return spec


def checked_all(path: Path, overrides: list[str], allow_code: bool) -> Spec:
    """Does the same as `checked`. If files are missing, the error also says what is wrong with those that are there."""
    make_importable(path, allow_code)
    spec = load_spec(path, overrides)
    try:
        check_files(spec)
    except ModelError as error:
        import torch

        from reds_core.models.config import Access

        wrong = check_present(spec, Access(torch.device("cpu"), allow_code))
        rest = "\n".join(wrong) or "everything else that can be checked without them is right"
        raise ModelError(f"{error}\n{rest}") from error
    check_code(spec, allow_code)
    _tell_doubts(spec)
    return spec


def existing(place: str) -> Folder:
    """Returns the folder at a path or URL. Raises OutputError if there is none."""
    folder = folder_at(place)
    if not folder.exists():
        raise OutputError(f"there is no folder {folder}")
    return folder


def check_removal(folder: Folder, agreed: bool) -> None:
    """Asks whether a run's shards may be removed, if there are any.

    Raises:
        UserError: the answer is no, or there is no terminal to ask at.
    """
    files = folder.files()
    count = len({*indices(files, "tar"), *indices(files, "parquet")})  # a shard without samples has no tar
    if agreed or not count:
        return
    what = f"{counted(count, 'shard')} ({sum(files.values()) / 1e6:.1f} MB) of {folder}"
    if not (sys.stdin and sys.stdin.isatty()):
        raise UserError(f"a fresh start removes {what}; nothing was removed. Say that it may", parameter="yes")
    print(f"reds: remove {what}? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UserError("nothing was removed, and nothing made")


def _tell_doubts(spec: Spec) -> None:
    for doubt in doubts(spec):
        print(f"reds: warning: {doubt}", file=sys.stderr)
