"""Where a report's pictures come from: thumbnails of accepted and rejected candidates, never a tar that has them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from reds_core.errors import ShardDamaged
from reds_core.reports import sheet
from reds_core.reports.page import write_report
from reds_core.reports.summary import summarised
from reds_core.runs.manifest import read_manifest, seal
from reds_core.runs.run_folder import pending
from reds_core.runs.verify import verify_run
from reds_core.spec.load import load_spec
from reds_core.storage.places import folder_at
from reds_core.storage.remote import RemoteFolder
from tests.reports.test_page import other_judge, run, text
from tests.variants.test_own_images import photographs

MANY_REJECTS: dict[str, Any] = {"varied": {"look": 0.25}}


def test_rejected_images_are_shown_with_their_reason(tmp_path: Path) -> None:
    folder = run(tmp_path, **MANY_REJECTS)
    rows = pd.concat(pd.read_parquet(path) for path in folder.glob("shard-*.parquet"))
    rejected = rows[~rows.accepted & rows.effect_look.notna()]
    marked = re.findall(r'class=" no"><img[^>]*><i>(look same|class moved|judge|duplicate)</i></button>', text(folder))
    assert len(marked) == len(rejected) > 5 and text(folder).count('<i class="none"') == len(rows[rows.effect_look.isna()])


def test_a_rejected_seed_is_shown_without_rows(tmp_path: Path) -> None:
    folder = run(tmp_path, seeds={"first": 0, "count": 4}, judge=other_judge(tmp_path))
    with summarised(folder_at(folder)) as summary:
        dropped = [card for card in sheet.contact_sheet(summary).seeds if card.dropped]
    assert dropped and all(c.own.data_url and c.own.reason == "seed's label" and not c.rows for c in dropped)
    assert "<h3>Seeds that yielded nothing</h3>" in text(folder)


def test_an_image_that_cannot_be_reconstructed_is_shown_beside_what_came_out(tmp_path: Path) -> None:
    photographs(tmp_path / "world" / "data", 2)
    folder = run(tmp_path, seeds={"images": "data", "fit": {"distance": 1e-6}}, label=None, varied={"look": 0.01})
    with summarised(folder_at(folder)) as summary:
        cards = sheet.contact_sheet(summary).seeds
    assert len(cards) == 2 and all(c.source and c.source.data_url and c.own.data_url and c.own.reason == "fit" for c in cards)


def test_a_report_opens_no_tar(tmp_path: Path) -> None:
    folder = run(tmp_path)
    before = text(folder)
    for tar in folder.glob("shard-*.tar"):
        tar.write_bytes(bytes(tar.stat().st_size))
    write_report(folder_at(folder))
    assert text(folder) == before


def test_a_report_of_a_run_in_a_store_fetches_no_tar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run(tmp_path)
    place = folder_at(f"memory://thumbnails/{tmp_path.name}/{folder.name}")
    for path in folder.iterdir():
        if path.is_file() and not path.name.startswith("."):
            place.send(Path(shutil.copy(path, tmp_path / "copy")), path.name)
    fetched, original = [], RemoteFolder._key

    def key(self: RemoteFolder, name: str = "") -> str:
        fetched.append(name)
        return original(self, name)

    monkeypatch.setattr(RemoteFolder, "_key", key)
    write_report(place)
    assert place.read("report.html") == (folder / "report.html").read_bytes()
    assert {f"shard-{k:05d}.zip" for k in range(3)} < set(fetched) and not [name for name in fetched if name.endswith(".tar")]


def without_thumbnails(folder: Path) -> None:
    """Makes a run what earlier versions left."""
    for path in folder.glob("shard-*.json"):
        said = {k: v for k, v in json.loads(path.read_text()).items() if not k.startswith("thumbnails_")}
        path.write_text(json.dumps(said | {"manifest_sha256": seal(said)}))
        path.with_suffix(".zip").unlink()


def test_a_run_of_an_earlier_version_is_intact_and_has_a_report_from_its_tars(tmp_path: Path) -> None:
    folder = run(tmp_path)
    accepted = text(folder).count('class=""><img')
    without_thumbnails(folder)
    write_report(folder_at(folder))
    assert text(folder).count('class=""><img') == accepted > 5 and 'class=" no"' not in text(folder)
    assert not any(verify_run(folder_at(folder)).values())
    assert pending(folder_at(folder), load_spec(folder / "spec.yaml")) == []


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(bytes(path.stat().st_size))])
def test_damaged_thumbnails_are_found_and_their_shard_is_made_anew(tmp_path: Path, damage: Any) -> None:
    folder = run(tmp_path)
    damage(folder / "shard-00001.zip")
    (problem,) = verify_run(folder_at(folder))[1]
    assert problem.startswith("shard-00001.zip: ")
    with pytest.raises(ShardDamaged, match="shard-00001: differs"):
        write_report(folder_at(folder))
    assert pending(folder_at(folder), load_spec(folder / "spec.yaml")) == [1]


def test_the_manifest_says_what_the_thumbnails_are(tmp_path: Path) -> None:
    folder = run(tmp_path, first=1)
    manifest = read_manifest(folder_at(folder), 0)
    assert manifest is not None and manifest.thumbnails_bytes == (folder / "shard-00000.zip").stat().st_size
    assert [name for _, name, _, _ in manifest.files()] == ["shard-00000.tar", "shard-00000.parquet", "shard-00000.zip"]
