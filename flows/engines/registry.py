"""An engine by its name, and the devices of its workers."""

from __future__ import annotations

from flows.engines import EngineName
from flows.engines.base import Engine
from flows.engines.local import Local
from flows.engines.processes import Processes
from reds_core.errors import ModelError
from reds_core.runs.worker import Request, cores


def check_asked(name: EngineName, device: str, workers: int | None, batch: int | None) -> None:
    """Finds what is wrong on any machine, without a look at this one's devices.

    Raises:
        ModelError: no engine of this name runs so.
    """
    from reds_core.jobs.prepare import named_device

    if workers is not None and workers < 1:
        raise ModelError(f"workers must be at least 1, got {workers}", parameter="workers")
    if batch is not None and batch < 1:
        raise ModelError(f"a batch must hold at least 1 image, got {batch}", parameter="batch")
    if name == "local" and workers not in (None, 1):
        raise ModelError(f"the local engine is one worker, not {workers}; use the engine `processes`", parameter="engine")
    if name == "ray" and device not in ("auto", "cpu", "cuda"):
        raise ModelError(f"Ray chooses the GPUs itself: the device must be cuda, got {device}", parameter="device")
    if device != "auto":
        named_device(device)


def open_engine(name: EngineName, request: Request, device: str, workers: int | None) -> Engine:
    """Returns the engine of this name.

    Raises:
        ModelError: this machine does not have such devices, or the engine does not take so many workers.
    """
    check_asked(name, device, workers, request.batch)
    if name == "local":
        return Local(request, device, lambda: list(dict.fromkeys(pick_devices(device, None))))
    if name == "ray":
        from flows.engines.ray import Ray

        return Ray(request, device, workers)
    return Processes(request, pick_devices(device, workers))


def pick_devices(device: str, workers: int | None) -> list[str]:
    """Returns a device for every worker: each GPU once (then again, if more workers are asked for), or the CPU.

    Raises:
        ModelError: this machine does not have such a device, or no worker is asked for.
    """
    import torch

    from reds_core.jobs.prepare import pick_device

    if workers is not None and workers < 1:
        raise ModelError(f"workers must be at least 1, got {workers}", parameter="workers")
    chosen = pick_device(device)
    if chosen.type == "cuda" and chosen.index is None:
        gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        return [gpus[i % len(gpus)] for i in range(workers or len(gpus))]
    return [str(chosen)] * (workers or (cores() if chosen.type == "cpu" else 1))
