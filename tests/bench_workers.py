"""What scheduling costs, and what a second worker process brings: `python -m tests.bench_workers [SHARDS]`.

Prints four claims, each measured here and now: the cost of a Prefect task around a shard, beside a server of its own; the time to encode an
image; the throughput of one and of two worker processes, of one torch thread each, on the main job's spec; and the resident memory.
"""

from __future__ import annotations

import io
import os
import resource
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from flows import home
from reds_core.shards import opened
from reds_core.spec import digest, load_spec
from reds_core.work import Request, cores

SPEC = Path(__file__).parent.parent / "augment_specs/fashion_mnist.yaml"
TASKS = 200


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Idle:
    """An engine whose shards take no time."""

    slots, where = 1, "nowhere"

    def __init__(self, request: Request) -> None:
        self.request = request

    def __call__(self, index: int) -> dict[str, Any]:
        return {"index": index}

    def close(self) -> None: ...


def tasks(request: Request) -> None:
    """The cost of a task, with its state changes, its name, and the run's progress."""
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.futures import as_completed

    from flows.artifacts import ProgressArtifact
    from flows.making import TASKS as RUNNER
    from flows.making import make_shard

    @flow(task_runner=RUNNER)
    def idle(count: int) -> float:
        shown = ProgressArtifact("bench", max(1, count))
        began = time.monotonic()
        futures = [make_shard.submit(k, Idle(request), "nowhere") for k in range(count)]
        for future in as_completed(futures):
            future.result()
            shown.step()
        return time.monotonic() - began

    with get_client(sync_client=True) as client:
        client.hello()
    idle(20)
    (server,) = [pid for pid in home.children() if "prefect" in Path(f"/proc/{pid}/cmdline").read_text()]
    mine, theirs = resource.getrusage(resource.RUSAGE_SELF), cpu_of(server)
    seconds = idle(TASKS)
    time.sleep(5)  # the server works through what it was sent
    now = resource.getrusage(resource.RUSAGE_SELF)
    client_ms = (now.ru_utime + now.ru_stime - mine.ru_utime - mine.ru_stime) / TASKS * 1000
    server_ms = (cpu_of(server) - theirs) / TASKS * 1000
    print(
        f"a Prefect task: {seconds / TASKS * 1000:.0f} ms of the run, {client_ms:.0f} ms of its CPU, {server_ms:.0f} ms of the server's; "
        f"under 1 % of the run if a shard takes {seconds / TASKS * 100:.1f} s or more on each of its devices, and one such server "
        f"keeps up with {1000 / server_ms:.0f} shards a second"
    )


def encoding() -> None:
    """What an image costs that is stored."""
    for side in (28, 64, 256, 1024):
        draw = np.random.RandomState(0)
        small = Image.fromarray(draw.randint(0, 256, (side // 4, side // 4, 3)).astype(np.uint8))
        noise = draw.randint(-3, 4, (side, side, 3))
        pixels = np.asarray(small.resize((side, side), Image.Resampling.BICUBIC)).astype(int) + noise
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        for kind, options in (("PNG", {}), ("JPEG", {"quality": 95}), ("WEBP", {"quality": 95})):
            began, count = time.monotonic(), max(1, 2_000_000 // side**2 // 4)
            for _ in range(count):
                file = io.BytesIO()
                image.save(file, kind, **options)
            ms = (time.monotonic() - began) / count * 1000
            print(f"{side}x{side} {kind}: {ms:.2f} ms of a core, {file.tell() / 1e3:.0f} kB")


def curve(request: Request, shards: int) -> None:
    """Shards a second by one and by two worker processes."""
    from flows.engines import Processes

    found: dict[int, list[float]] = {1: [], 2: []}
    engines = {}
    for count in found:
        engines[count] = Processes(request, ["cpu"] * count)
        engines[count].threads = 1
        with ThreadPoolExecutor(count) as threads:
            list(threads.map(engines[count], range(count)))  # every worker loads its networks
    for _ in range(3):  # in turn: other programs on this machine then slow both
        for count, engine in engines.items():
            began = time.monotonic()
            with ThreadPoolExecutor(count) as threads:
                list(threads.map(engine, range(shards)))
            found[count].append(shards / (time.monotonic() - began))
    for engine in engines.values():
        engine.close()
    one, two = (float(np.median(found[count])) for count in (1, 2))
    print(
        f"shards a second, medians of 3: one worker process {one:.2f}, two {two:.2f}: efficiency {two / one / 2:.0%}, {cores()} cores"
    )
    print("  each:", "; ".join(f"{count}: {', '.join(f'{v:.2f}' for v in values)}" for count, values in found.items()))


def main() -> None:
    shards = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    os.environ.pop("PREFECT_API_URL", None)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["REDS_PREFECT_HOME"] = f"{scratch}/prefect"
        home.settle()
        spec = load_spec(SPEC, [f"seeds.count={16 * shards}", "shards.seeds=16"])
        with opened(spec, Path(scratch)) as folder:
            request = Request(spec, digest(spec), folder, None, False, ())
            encoding()
            tasks(request)
            curve(request, shards)


if __name__ == "__main__":
    main()
