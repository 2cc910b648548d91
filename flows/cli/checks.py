"""What is found before anything slow starts: mistakes in a spec, files that are missing, folders that are not there."""

from __future__ import annotations

import sys
from pathlib import Path

from flows.parameters import load
from reds_core.errors import ModelError, OutputError
from reds_core.spec.fields import Spec
from reds_core.spec.files import check_files, check_present
from reds_core.spec.problems import doubts
from reds_core.storage.folder import Folder
from reds_core.storage.places import folder_at


def checked(path: Path, overrides: list[str], allow_code: bool) -> Spec:
    """The spec, its files there. Raises SpecError or ModelError, and warns of what is doubtful."""
    spec = load(path, overrides, allow_code)
    check_files(spec)
    _tell_doubts(spec)
    return spec


def checked_all(path: Path, overrides: list[str], allow_code: bool) -> Spec:
    """The same. If files are missing, the error says what is wrong with those that are there, too."""
    spec = load(path, overrides, allow_code)
    try:
        check_files(spec)
    except ModelError as error:
        import torch

        from reds_core.models.config import Access

        wrong = check_present(spec, Access(torch.device("cpu"), allow_code))
        rest = "\n".join(wrong) or "everything else that can be checked without them is right"
        raise ModelError(f"{error}\n{rest}") from error
    _tell_doubts(spec)
    return spec


def existing(place: str) -> Folder:
    """The folder at a path or URL. Raises OutputError if there is none."""
    folder = folder_at(place)
    if not folder.exists():
        raise OutputError(f"there is no folder {folder}")
    return folder


def _tell_doubts(spec: Spec) -> None:
    for doubt in doubts(spec):
        print(f"reds: warning: {doubt}", file=sys.stderr)
