"""The tutorial, followed to the letter."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli.app import main
from tests.support import ROOT
from tests.support.docs import page

PLACEHOLDER = "0123456789abcdef"
CHECKPOINT = ROOT / "tests/data/sg2ada-tiny.pkl"


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_every_line_of_the_tutorial_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("REDS_PREFECT_HOME", str(tmp_path / "prefect"))
    (tmp_path / "augment_specs").symlink_to(ROOT / "augment_specs")
    shutil.copy(CHECKPOINT, tmp_path / "network.pkl")
    written = re.search(r"Write `([\w-]+\.yaml)`", page("tutorial").text)
    assert written
    for block in page("tutorial").blocks():
        if block.language == "text":
            Path(written[1]).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            exec(compile(block.text, str(block), "exec"), {})
        for words in block.commands() if block.language == "sh" else ():
            ran = [word.replace(PLACEHOLDER, next((p.name for p in Path("outputs").glob("*/*")), "")) for word in words]
            if ran[0] != "reds":
                subprocess.run(ran, check=True)
                continue
            monkeypatch.setattr(sys, "argv", ran)
            with pytest.raises(SystemExit) as ended:
                main()
            assert not ended.value.code, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "kind: stylegan2" in said and "1 shard intact" in said and "variants+classic" in said
    assert {p.name for p in Path("outputs").glob("*/*/evaluation/*")} >= {"evaluation.md", "evaluation.png", "evaluation.csv"}
