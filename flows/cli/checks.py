"""Mistakes that are found before anything slow starts: in a spec, in its files, in the name of a folder."""

from __future__ import annotations

import sys
from pathlib import Path

from flows.parameters import checked_spec, make_importable
from reds_core.errors import ModelError, OutputError
from reds_core.spec.fields import Spec
from reds_core.spec.files import check_code, check_files, check_present
from reds_core.spec.load import load_spec
from reds_core.spec.problems import doubts
from reds_core.storage.folder import Folder
from reds_core.storage.places import folder_at


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


def _tell_doubts(spec: Spec) -> None:
    for doubt in doubts(spec):
        print(f"reds: warning: {doubt}", file=sys.stderr)
