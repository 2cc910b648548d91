"""What a user's data holds: folders, tables and tars, and everything in them that is no labelled image."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from reds_core.errors import ModelError
from reds_core.sources import sources_of


def png(shade: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((4, 4), shade, np.uint8)).save(file, "PNG")
    return file.getvalue()


def folder_of(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def test_a_folder_s_images_come_by_name_with_their_folder_as_the_label(tmp_path: Path) -> None:
    names = ["Dress/b.PNG", "Ankle boot/a.v2.png", "Ankle boot/inner/c.png", "Мантия/ü.png"]
    found = sources_of(str(folder_of(tmp_path, {name: png(k) for k, name in enumerate(names)})))
    assert [(s.name, s.label) for s in found.images] == [(n, n.partition("/")[0]) for n in sorted(names)]
    assert found.labels == ["Ankle boot", "Dress", "Мантия"] and not found.skipped
    assert found.images[0].read() == png(1)


def test_nothing_is_lost_silently(tmp_path: Path) -> None:
    outside = folder_of(tmp_path / "outside", {"x.png": png(9)})
    data = folder_of(
        tmp_path / "data",
        {
            "a/1.png": png(1), "a/2.png": png(1), "a/broken.png": b"not a png", "a/empty.jpg": b"", "a/.hidden.png": png(2),
            "a/notes.txt": b"hello", "loose.png": png(3), ".cache/z.png": png(4),
        },
    )  # fmt: skip
    (data / "none").mkdir()
    (data / "a/link.png").symlink_to(outside / "x.png")
    (data / "linked").symlink_to(outside, target_is_directory=True)
    found = sources_of(str(data))
    assert [s.name for s in found.images] == ["a/1.png"]
    why = dict(found.skipped)
    assert why["a/2.png"] == "the same image as a/1.png" and why["a/empty.jpg"] == "an empty file"
    assert why["a/broken.png"] == "not an image" and why["a/notes.txt"] == "not an image, by its name"
    assert why["a/.hidden.png"] == why[".cache/"] == "hidden" and why["loose.png"] == "lies in no class folder"
    assert why["none/"] == "an empty folder" and why["linked/"] == "a link to a folder"
    assert why["a/link.png"] == "a link out of the folder"
    assert len(why) == 10


def test_one_image_with_two_labels_is_an_error_that_names_both(tmp_path: Path) -> None:
    data = folder_of(tmp_path, {"cat/1.png": png(1), "dog/7.png": png(1)})
    with pytest.raises(ModelError, match=r"cat/1\.png and dog/7\.png are the same image with two labels, cat and dog"):
        sources_of(str(data))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_names_files_beside_it(tmp_path: Path, suffix: str) -> None:
    folder_of(tmp_path, {"x/b.png": png(1), "a.png": png(2), "c.png": png(3)})
    rows = pd.DataFrame({"file": ["x/b.png", "a.png", "gone.png", "c.png"], "label": ["1", "NA", "1", ""]})
    path = tmp_path / f"table{suffix}"
    rows.to_csv(path, index=False) if suffix == ".csv" else rows.to_parquet(path)
    found = sources_of(str(path))
    assert [(s.name, s.label) for s in found.images] == [("a.png", "NA"), ("x/b.png", "1")]
    assert dict(found.skipped) == {"gone.png": "there is no such file", "c.png": "has no label"}


def test_tars_are_read_where_they_lie(tmp_path: Path) -> None:
    for k in range(2):
        with tarfile.open(tmp_path / f"part-{k}.tar", "w") as tar:
            files = {
                f"s{k}.png": png(10 + k), f"s{k}.cls": b"3", f"t{k}.png": png(20 + k), f"u{k}.cls": b"1",
                f"t{k}.json": json.dumps({"label": 4, "label_name": "Coat"}).encode(), f"v{k}.jpg": png(30 + k),
            }  # fmt: skip
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    found = sources_of(str(tmp_path / "part-{0..1}.tar"))
    assert [(s.name, s.label) for s in found.images] == [
        ("part-0.tar/s0", "3"), ("part-0.tar/t0", "Coat"), ("part-1.tar/s1", "3"), ("part-1.tar/t1", "Coat"),
    ]  # fmt: skip
    assert found.images[3].read() == png(21)
    assert dict(found.skipped)["part-0.tar/u0"] == "has no image" and "no .cls" in dict(found.skipped)["part-1.tar/v1"]
    assert sources_of([str(tmp_path / f"part-{k}.tar") for k in range(2)]).identity == found.identity


def test_the_identity_is_that_of_names_bytes_and_labels(tmp_path: Path) -> None:
    files = {"a/1.png": png(1), "b/2.png": png(2)}
    one, other = (sources_of(str(folder_of(tmp_path / n, files))).identity for n in ("one", "other"))
    assert one == other
    assert sources_of(str(folder_of(tmp_path / "third", files | {"b/2.png": png(3)}))).identity != one
    assert sources_of(str(folder_of(tmp_path / "fourth", {"a/1.png": png(1), "c/2.png": png(2)}))).identity != one


def test_a_file_that_changes_after_it_was_listed_is_noticed(tmp_path: Path) -> None:
    data = folder_of(tmp_path, {"a/1.png": png(1)})
    (image,) = sources_of(str(data)).images
    (data / "a/1.png").write_bytes(png(2))
    with pytest.raises(ModelError, match=r"a/1\.png was changed during the run"):
        image.read()
    os.remove(data / "a/1.png")
    with pytest.raises(ModelError, match="cannot be read"):
        image.read()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone", None, "there is no folder, table or tar"),
        ("t.csv", b"name,class\na,b\n", "has no column file and no column label; it has name, class"),
        ("t.parquet", b"junk", "cannot be read as a table"),
        ("t.tar", b"junk" * 400, "cannot be read as a tar"),
        ("t.csv", b"file,label\n", "holds no labelled images"),
    ],
)
def test_data_of_another_kind_is_an_error_in_words(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=message):
        sources_of(str(tmp_path / name))


def test_classes_choose_among_the_labels(tmp_path: Path) -> None:
    data = folder_of(tmp_path, {"a/1.png": png(1), "b/2.png": png(2), "3/x.png": png(3)})
    assert [s.label for s in sources_of(str(data), ["b", 3]).images] == ["3", "b"]
    with pytest.raises(ModelError, match="no image has the label d; there are 3, a, b"):
        sources_of(str(data), ["a", "d"])
