"""What scheduling costs, and what a second worker process brings: `python -m tests.benchmarks.workers [SHARDS]`.

Measured here and now: the time to encode an image; the cost of a Prefect task around a shard, beside a server of its own; the
throughput of one and of two worker processes, of one torch thread each, on the main job's spec. From these, and from what a GPU was
measured to do elsewhere, it counts what one GPU, eight and a hundred would yield, and which resource ends first.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import numpy as np

from flows import prefect_env
from flows.process import child_processes
from reds_core.jobs.images import ImageFormat, encode
from reds_core.runs.run_folder import opened
from reds_core.runs.worker import Request, cores
from reds_core.spec.digest import digest
from reds_core.spec.load import load_spec
from reds_core.storage.places import folder_at
from tests.support import ROOT

SPEC = ROOT / "augment_specs/fashion_mnist.yaml"
TASKS = 200
RAW = 293  # images per second of StyleGAN2 at 256x256 in float32, on one H100
EQUIVALENTS = 20  # per accepted variant, rejected ones included
BUCKET = 3500  # writes per second that S3 promises a prefix
SHARD = 64 * 24  # variants in a shard of 64 seeds, with 4 directions, 4 waypoints and three quarters accepted


def cpu_of(pid: int) -> float:
    """Returns the seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Idle:
    """An engine whose shards take no time."""

    slots = 1

    def __init__(self, request: Request) -> None:
        self.request = request

    def here(self) -> str:
        return "nowhere"

    def __call__(self, index: int) -> dict[str, Any]:
        return {"index": index}

    def close(self) -> None: ...


def tasks(request: Request) -> float:
    """Prints what a task costs, with its state changes, its name, and the run's progress; returns milliseconds of the server."""
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.futures import as_completed
    from prefect.task_runners import ThreadPoolTaskRunner

    from flows.artifacts import ProgressArtifact
    from flows.shards import make_shard

    @flow
    def idle(count: int) -> float:
        shown, engine = ProgressArtifact("bench", max(1, count)), Idle(request)
        began = time.monotonic()
        threads: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(max_workers=engine.slots)
        with threads as runner:
            for future in as_completed([runner.submit(make_shard, {"index": k, "engine": engine}) for k in range(count)]):
                future.result()
                shown.step()
        return time.monotonic() - began

    with get_client(sync_client=True) as client:
        client.hello()
    idle(20)
    (server,) = [pid for pid in child_processes() if "embedded_api" in Path(f"/proc/{pid}/cmdline").read_text()]
    mine, theirs = resource.getrusage(resource.RUSAGE_SELF), cpu_of(server)
    seconds = idle(TASKS)
    time.sleep(5)  # the server works through what it was sent
    now = resource.getrusage(resource.RUSAGE_SELF)
    client_ms = (now.ru_utime + now.ru_stime - mine.ru_utime - mine.ru_stime) / TASKS * 1000
    server_ms = (cpu_of(server) - theirs) / TASKS * 1000
    print(
        f"a Prefect task: {seconds / TASKS * 1000:.0f} ms of the run, {client_ms:.0f} ms of its CPU, "
        f"{server_ms:.0f} ms of the server's; "
        f"under 1 % of the run if a shard takes {seconds / TASKS * 100:.1f} s or more on each of its devices, and one such server "
        f"keeps up with {1000 / server_ms:.0f} shards per second"
    )
    return server_ms


def natural(side: int) -> np.ndarray:
    """Returns uint8 (side, side, 3): noise with the spectrum of photographs, which falls with the frequency."""
    draw, f = np.random.RandomState(0), np.fft.fftfreq(side)
    radius = np.hypot(f[:, None], f[None]).clip(1 / side) ** 1.5
    planes = np.stack([np.fft.ifft2(np.fft.fft2(draw.randn(side, side)) / radius).real for _ in range(3)], -1)
    planes -= planes.min()
    levels: np.ndarray = (planes * 255 / planes.max()).astype(np.uint8)
    return levels


def encoding() -> dict[tuple[int, str], tuple[float, float]]:
    """Prints and returns what storing an image costs: milliseconds of a core and kB, by size and format."""
    costs = {}
    for side in (28, 64, 256, 1024):
        image = natural(side)
        for kind in get_args(ImageFormat):
            began, count = time.monotonic(), max(3, 2_000_000 // side**2)
            for _ in range(count):
                file = encode(image, kind, None)
            ms = (time.monotonic() - began) / count * 1000
            print(f"{side}x{side} {kind}: {ms:.2f} ms of a core, {len(file) / 1e3:.0f} kB")
            costs[side, kind] = ms, len(file) / 1e3
    return costs


def curve(request: Request, shards: int) -> None:
    """Prints the shards per minute of one and of two worker processes."""
    from flows.engines.processes import Processes

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
        f"shards per minute, medians of 3: one worker process {60 * one:.2f}, two {60 * two:.2f}: efficiency {two / one / 2:.0%}, "
        f"{cores()} cores"
    )
    print("  each:", "; ".join(f"{count}: {', '.join(f'{60 * v:.2f}' for v in values)}" for count, values in found.items()))


def work(side: int) -> float:
    """Returns the floating-point operations for an image of StyleGAN2 in its configuration F."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from reds_core.models.published.stylegan2 import StyleGan2

    widths = tuple(min(2**15 // (4 << k), 512) for k in range(side.bit_length() - 2))
    a = StyleGan2(
        kind="stylegan2", z_dim=512, w_dim=512, classes=0, mapping_layers=8, channels=widths, colours=3, form="skip", clamp=None
    )
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        a.build()["synthesis"].requires_grad_(False)(torch.zeros(1, a.rows, 512))
    return float(counter.get_total_flops())


def scale(costs: dict[tuple[int, str], tuple[float, float]], server_ms: float) -> None:
    """Prints what GPUs would yield, and what else that takes."""
    print(f"\nOn paper: {RAW} images per second at 256x256 and {EQUIVALENTS} equivalents per variant; features not counted")
    for side in (1024, 64):
        ratio = work(side) / work(256)
        each = RAW / ratio / EQUIVALENTS
        print(f"StyleGAN2 at {side}x{side}: {ratio:.2f} times the work of 256x256")
        for gpus in (1, 8, 100):
            rate = gpus * each
            needs = [
                f"{kind} {costs[side, kind][0] * rate / 1000:.2g} cores and {costs[side, kind][1] * rate / 1000:.3g} MB/s"
                for kind in ("png", "jpg")
            ]
            shards = rate / SHARD
            print(
                f"  {gpus} GPUs: {rate:.3g} variants per second, {rate * 3600 * 8 / 1e6:.3g} million in 8 hours; "
                f"{', '.join(needs)}; {shards:.2g} shards per second ({SHARD / each:.0f} s each), "
                f"{3 * shards / BUCKET:.1%} of a prefix's writes, {shards * server_ms / 1000:.1%} of the server"
            )


def main() -> None:
    shards = max(2, int(sys.argv[1])) if len(sys.argv) > 1 else 4  # one for each of two workers
    os.environ.pop("PREFECT_API_URL", None)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["REDS_PREFECT_HOME"] = f"{scratch}/prefect"
        prefect_env.connect(prefect_env.set_environment())
        spec = load_spec(SPEC, [f"seeds.count={16 * shards}", "shards.seeds=16"])
        with opened(spec, folder_at(Path(scratch))) as folder:
            request = Request(spec, digest(spec), folder, None, False, ())
            costs = encoding()
            scale(costs, tasks(request))
            curve(request, shards)


if __name__ == "__main__":
    main()
