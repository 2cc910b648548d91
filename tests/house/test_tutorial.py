"""The tutorial, followed to the letter."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.docs import page
from tests.support.programs import finished, forked, outside

PLACEHOLDER = "0123456789abcdef"
CHECKPOINT = ROOT / "tests/data/sg2ada-tiny.pkl"


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_every_line_of_the_tutorial_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, tutorial, said = tmp_path / "here", page("tutorial"), ""
    here.mkdir()
    monkeypatch.chdir(here)
    (here / "augment_specs").symlink_to(ROOT / "augment_specs")
    shutil.copy(CHECKPOINT, here / "network.pkl")
    written = re.search(r"Write `([\w-]+\.yaml)`", tutorial.text)
    assert written
    environment = outside() | {"REDS_PREFECT_HOME": str(tmp_path / "prefect")}
    for block in tutorial.blocks():
        if block.language == "text":
            Path(written[1]).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            exec(compile(block.text, str(block), "exec"), {})
        for words in block.commands() if block.language == "sh" else ():
            program, *rest = (w.replace(PLACEHOLDER, next((p.name for p in Path("outputs").glob("*/*")), "")) for w in words)
            if program != "reds":
                subprocess.run([program, *rest], check=True)
                continue
            ran = finished(forked(tuple(rest), environment, here))
            assert ran.returncode == 0, ran.stderr
            said += ran.stdout
    assert "kind: stylegan2" in said and "1 shard intact" in said and "variants+classic" in said
    assert {p.name for p in Path("outputs").glob("*/*/evaluation/*")} >= {"evaluation.md", "evaluation.png", "evaluation.csv"}
