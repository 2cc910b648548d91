"""What can happen to the files of a run: functions (draw, run) -> {name: what lies there instead}, of a `random.Random`.

Hypothesis drives them in `tests/fuzz/test_fuzz.py`, a seed in `tests/benchmarks/fuzz.py`.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from random import Random

from tests.fuzz.runs import SHARDS, SPEC, Content, Damage, Odd, Run
from tests.support.shards import KINDS, TIME

# The bytes of one file


def some(draw: Random, run: Run) -> tuple[str, bytes]:
    """Returns a file of a shard: its name and its bytes."""
    name = draw.choice(run.names(draw.choice((".tar", ".parquet", ".zip", ".json"))))
    return name, run.files[name]


def bits_flipped(draw: Random, run: Run) -> Damage:
    name, data = some(draw, run)
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 8, 64))):
        changed[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return {name: bytes(changed)}


def bytes_set(draw: Random, run: Run) -> Damage:
    name, data = some(draw, run)
    at, count = draw.randrange(len(data)), draw.choice((1, 2, 8, 100))
    return {name: data[:at] + bytes(draw.randrange(256) for _ in data[at : at + count]) + data[at + count :]}


def truncated(draw: Random, run: Run) -> Damage:
    name, data = some(draw, run)
    return {name: data[: draw.choice((draw.randrange(len(data)), draw.randrange(len(data)) // 512 * 512, len(data) - 1))]}


def front_lost(draw: Random, run: Run) -> Damage:
    name, data = some(draw, run)
    return {name: data[draw.choice((1, 512, draw.randrange(len(data)))) :]}


def appended(draw: Random, run: Run) -> Damage:
    name, data = some(draw, run)
    return {name: data + draw.choice((b"\0", b"\n", b" ", bytes(512), bytes(10240), data, run.files[draw.choice(run.names())]))}


def block(draw: Random, data: bytes) -> slice:
    at = draw.randrange(max(1, len(data) // 512)) * 512
    return slice(at, at + 512)


def block_zeroed(draw: Random, run: Run) -> Damage:
    name, data = some(draw, run)
    one = block(draw, data)
    return {name: data[: one.start] + bytes(len(data[one])) + data[one.stop :]}


def blocks_swapped(draw: Random, run: Run) -> Damage:
    name, data = some(draw, run)
    first, second = sorted((block(draw, data), block(draw, data)), key=lambda b: b.start)
    if first == second:
        return {name: data}
    return {name: data[: first.start] + data[second] + data[first.stop : second.start] + data[first] + data[second.stop :]}


def block_moved(draw: Random, run: Run) -> Damage:
    """Loses a block, doubles it, or writes it over another one."""
    name, data = some(draw, run)
    one, other = block(draw, data), block(draw, data)
    return {
        name: draw.choice((
            data[: one.start] + data[one.stop :],
            data[: one.start] + data[one] + data[one.start :],
            data[: other.start] + data[one] + data[other.stop :],
        ))
    }  # fmt: skip


# A tar's members, their headers' checksums right

HEADER = {
    "name": (0, 100), "mode": (100, 8), "uid": (108, 8), "size": (124, 12), "mtime": (136, 12), "type": (156, 1),
    "linkname": (157, 100),
    "magic": (257, 8), "uname": (265, 32), "major": (329, 8), "prefix": (345, 155), "sparse": (386, 96), "extended": (482, 1),
    "unpacked size": (483, 12),
}  # fmt: skip
TYPES = b"01234567xgLKSDVNXA\0\xff"


def members(data: bytes) -> list[tuple[int, int]]:
    """Returns where each member of a tar begins and ends, the archive's end last."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        starts = [m.offset for m in tar.getmembers()]
        ends = [*starts[1:], tar.offset]
    return list(zip(starts, ends, strict=True))


def header(field: str, content: bytes, old: bytes) -> bytes:
    """Returns a header with one field changed and its checksum made anew."""
    at, size = HEADER[field]
    new = bytearray(old[:at] + content[:size].ljust(size, b"\0") + old[at + size :])
    new[148:156] = b" " * 8
    new[148:156] = b"%06o\0 " % sum(new)
    return bytes(new)


def some_tar(draw: Random, run: Run) -> tuple[str, bytes, list[tuple[int, int]]]:
    """Returns a tar that has members: its name, its bytes, and where they are."""
    name = draw.choice([n for n in run.names(".tar") if any(run.files[n])])
    return name, run.files[name], members(run.files[name])


def header_rewritten(draw: Random, run: Run) -> Damage:
    name, data, found = some_tar(draw, run)
    start, _ = draw.choice(found)
    for field in draw.sample(list(HEADER), draw.choice((1, 1, 2, 3))):
        content = draw.choice((
            b"%011o" % draw.randrange(8**4), b"77777777777", b"\x80" + b"\xff" * 11, b"\xff" * 12, b"\xff" * 11 + b"\0",
            b"\x80" + bytes(10) + b"\1",
            b"-1", b"8", b"", b"../x", b"/etc/passwd", b"s\xff\xfe.png",
            b"a\n\x1b[2J", b"PaxHeaders/x", bytes(draw.randrange(256) for _ in range(12)),
        ))  # fmt: skip
        if field == "type":
            content = bytes([draw.choice(TYPES)])
        data = data[:start] + header(field, content, data[start : start + 512]) + data[start + 512 :]
    return {name: data}


def header_chained(draw: Random, run: Run) -> Damage:
    """Adds headers that announce a longer name, or more headers, one after another and at last for nothing."""
    name, data, found = some_tar(draw, run)
    start, _ = draw.choice(found)
    one = header(
        "type",
        bytes([draw.choice(b"xgLKSX")]),
        header("size", draw.choice((b"0", b"10", b"1000", b"1")), data[start : start + 512]),
    )
    inside = draw.choice(
        (
            bytes(512),
            b"12 path=abc\n".ljust(512, b"\0"),
            b"30 GNU.sparse.major=1\n".ljust(512, b"\0"),
            b"9" * 512,
            b"\xff" * 512,
            b"",
        )
    )
    chain = (one + inside) * draw.choice((1, 2, 50, 3000))
    return {name: data[:start] + chain + draw.choice((data[start:], b"", bytes(1024)))}


def member_doubled(draw: Random, run: Run) -> Damage:
    name, data, found = some_tar(draw, run)
    start, end = draw.choice(found)
    at, _ = draw.choice(found)
    return {name: data[:at] + data[start:end] + data[at:]}


def member_removed(draw: Random, run: Run) -> Damage:
    name, data, found = some_tar(draw, run)
    first, last = sorted((draw.randrange(len(found)), draw.randrange(len(found))))
    return {name: data[: found[first][0]] + data[found[last][1] :]}


def members_reordered(draw: Random, run: Run) -> Damage:
    name, data, found = some_tar(draw, run)
    order = list(found)
    draw.shuffle(order)
    return {name: b"".join(data[a:b] for a, b in order) + data[found[-1][1] :]}


# A manifest's values


def manifest_changed(draw: Random, run: Run) -> Damage:
    """Replaces, renames or removes one value, as JSON; now and then changes only white space, the order or the time."""
    name = draw.choice(run.names(".json"))
    found = json.loads(run.files[name])
    key = draw.choice(list(found))
    how = draw.randrange(6)
    if how == 0:
        del found[key]
    elif how == 1:
        found[draw.choice(("", "sha_256", "é", key.upper()))] = found.pop(key)
    elif how == 2:
        key = TIME
    if how in (2, 3, 4):
        old = found[key]
        found[key] = draw.choice((
            None, True, -1, 0, 1.0, 1e308, float("nan"), 10**30, "", "0" * 64, [], {}, [old], old, str(old), {"a": old},
            1 - old if isinstance(old, int) else 1,
        ))  # fmt: skip
    text = json.dumps(found, indent=draw.choice((None, 1, 4)), sort_keys=draw.choice((True, False)), ensure_ascii=False)
    return {name: text.encode()}


def manifest_spoiled(draw: Random, run: Run) -> Damage:
    """Leaves text that is not a manifest any more, or more than one."""
    name = draw.choice(run.names(".json"))
    text = run.files[name].decode()
    depth = draw.choice((10, 300, 900, 960, 980, 990, draw.randrange(900, 1000), 100_000))
    deep = "[" * depth + "]" * depth
    return {
        name: draw.choice((
            b"", b"{", b"[]", b"null", b"{}", b"\xff\xfe", b"\xef\xbb\xbf" + text.encode(), text.encode("utf-16"), deep.encode(),
            (text * 2).encode(), text.replace("{", f'{{"deep": {deep},', 1).encode(),
            text.replace("{", '{"more": "\\ud800",', 1).encode(),
            text.replace("1", "9" * 5000, 1).encode(), text.replace("{", '{"index": 7, "index": 9,', 1).encode(),
            text.replace("\n", "\r\n").encode(), text.replace(" ", "\t").encode(), bytes(len(text)),
        ))
    }  # fmt: skip


# Whole files


def lost(draw: Random, run: Run) -> Damage:
    return dict.fromkeys(draw.sample(run.names(), draw.choice((1, 1, 2, 3, 9))))


def emptied(draw: Random, run: Run) -> Damage:
    return dict.fromkeys(draw.sample(run.names(), draw.choice((1, 1, 2, 9))), b"")


def not_a_file(draw: Random, run: Run) -> Damage:
    """Puts a folder, a pipe, or a link to nothing, to itself, to a device or to another file in a file's place."""
    name, other = draw.sample(run.names(), 2)
    return {name: draw.choice((Odd("folder"), Odd("pipe"), *(Odd("link", t) for t in ("nowhere", name, "/dev/zero", ".", other))))}


def exchanged(draw: Random, run: Run) -> Damage:
    """Puts two files, of one kind or of any, each under the other's name; or one in both places."""
    one, other = draw.sample(run.names(draw.choice(("", ".tar", ".parquet", ".zip", ".json"))), 2)
    return draw.choice(({one: run.files[other], other: run.files[one]}, {one: run.files[other]}))


def shards_exchanged(draw: Random, run: Run) -> Damage:
    one, other = draw.sample(SHARDS, 2)
    a, b = ([f"shard-{k:05d}.{kind}" for kind in KINDS] for k in (one, other))
    return {x: run.files.get(y) for x, y in zip(a + b, b + a, strict=True)}


def anothers(draw: Random, run: Run) -> Damage:
    """Puts files of another run in place of this one's, under their own names: one, a shard's, or all."""
    k = draw.choice(SHARDS)
    chosen = draw.choice(([draw.choice(run.names())], [n for n in run.names() if n.startswith(f"shard-{k:05d}.")], run.names()))
    return {name: run.other.get(name) for name in chosen}


def stray(draw: Random, run: Run) -> Damage:
    """Adds a tar that is not one of the run's."""
    return {
        draw.choice(("extra.tar", "shard-00000 copy.tar", "shard-0.tar", "shard-000000.tar", "shard-00000.x.tar")): run.files[
            draw.choice(run.names())
        ]
    }


def spec_damaged(draw: Random, run: Run) -> Damage:
    """Damages the run's own spec: the folder may then not be a run, and `verify` says so."""
    data = bytearray(run.files[SPEC])
    for _ in range(draw.choice((1, 8))):
        data[draw.randrange(len(data))] = draw.randrange(256)
    cut = run.files[SPEC][: draw.randrange(len(data))]
    return {SPEC: draw.choice((bytes(data), cut, None, b"", b"\0" * 99, Odd("folder"), Odd("link", SPEC), b"[" * 10_000))}


def several(draw: Random, run: Run) -> Damage:
    """Does damage of several kinds to several files."""
    damage: dict[str, Content] = {}
    for _ in range(draw.randrange(2, 6)):
        damage |= DAMAGES[draw.choice([k for k in DAMAGES if k not in ("several", "spec_damaged")])](draw, run)
    return damage


def nothing(draw: Random, run: Run) -> Damage:
    """Writes files again as they were."""
    return {name: run.files[name] for name in draw.sample(run.names(), 3)}


DAMAGES: dict[str, Callable[[Random, Run], Damage]] = {
    f.__name__: f
    for f in (
        bits_flipped, bytes_set, truncated, front_lost, appended, block_zeroed, blocks_swapped, block_moved, header_rewritten,
        header_chained,
        member_doubled, member_removed, members_reordered, manifest_changed, manifest_spoiled, lost, emptied, not_a_file, exchanged,
        shards_exchanged, anothers, stray, spec_damaged, several, nothing,
    )
}  # fmt: skip
