"""TODO."""

from __future__ import annotations

from flows.engines.base import Engine
from flows.engines.local import Local
from flows.engines.processes import Processes
from reds_core.errors import ModelError
from reds_core.runs.worker import Request, cores


def open_engine(name: str, request: Request, device: str, workers: int | None) -> Engine:
    """The engine of this name. Raises ModelError for devices that this machine does not have."""
    if name == "local":
        if workers not in (None, 1):
            raise ModelError(f"the local engine is one worker, not {workers}; use --engine processes")
        return Local(request, device)
    if name == "ray":
        from flows.engines.ray import Ray

        return Ray(request, device, workers)
    return Processes(request, pick_devices(device, workers))


def pick_devices(device: str, workers: int | None) -> list[str]:
    """A device for every worker: each GPU once (then again, if more workers are asked for), or the CPU."""
    import torch

    from reds_core.variants.prepare import pick_device

    if workers is not None and workers < 1:
        raise ModelError(f"{workers} workers are none; give 1 or more")
    chosen = pick_device(device)
    if chosen.type == "cuda" and chosen.index is None:
        gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        return [gpus[i % len(gpus)] for i in range(workers or len(gpus))]
    return [str(chosen)] * (workers or (cores() if chosen.type == "cpu" else 1))
