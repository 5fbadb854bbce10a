"""What a training run asks of the machine: processes, precision, signals."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning_fabric.strategies import DDPStrategy

from rela_bids.exceptions import UsageError

# How long processes wait for the first, which may have a whole dataset to prepare.
PATIENCE = timedelta(days=14)


def start_fabric(device: str, devices: int, num_nodes: int) -> Fabric:
    """Fabric for one process, for those that torchrun or srun has started, or for new ones.

    Raises UsageError where several nodes are asked for and nothing has started a process on each.
    """
    if TorchElasticEnvironment.detect():
        devices = int(os.environ.get("LOCAL_WORLD_SIZE", devices))
        num_nodes = int(os.environ["WORLD_SIZE"]) // devices
    started = processes_started(devices, num_nodes)
    if num_nodes > 1 and not started:
        raise UsageError("--num-nodes: start one process for each device with srun or torchrun")
    common: dict[str, Any] = {
        "accelerator": device,
        "devices": devices,
        "num_nodes": num_nodes,
        "precision": _precision(device),
    }
    if devices * num_nodes == 1:
        return Fabric(**common, plugins=[LightningEnvironment()])
    if started:
        return Fabric(**common, strategy=DDPStrategy(timeout=PATIENCE))
    # Spawned, since the alternative starts the whole command line once more for each device.
    return Fabric(**common, strategy="ddp_spawn", plugins=[LightningEnvironment()])


def processes_started(devices: int, num_nodes: int) -> bool:
    """Whether torchrun or srun has started the processes of a training run, this one among them."""
    if TorchElasticEnvironment.detect():
        return True
    tasks = os.environ.get("SLURM_NTASKS")
    return "SLURM_PROCID" in os.environ and tasks == str(devices * num_nodes) != "1"


class Processes:
    """The processes of a training run that have been started so far, one or several.

    Parameters are those of `start_fabric`, whose errors are raised.
    """

    def __init__(self, device: str, devices: int, num_nodes: int) -> None:
        self._fabric = None
        if processes_started(devices, num_nodes):
            self._fabric = start_fabric(device, devices, num_nodes)
            # The group of processes stays, and is found by the Fabric of the training.
            self._fabric.launch()

    @property
    def first(self) -> bool:
        """Whether this process is the one that speaks and writes."""
        return self._fabric is None or self._fabric.is_global_zero

    def once(self, work: Callable[[], Any]) -> Any:
        """What `work` returns in the first process, in all of them.

        Where it fails, the first process raises what it raised, and the others end without a word.
        """
        if self._fabric is None:
            return work()
        result, error = None, None
        if self.first:
            try:
                result = work()
            except Exception as raised:
                error = raised
        result, failed = self._fabric.broadcast((result, error is not None))
        if error is not None:
            raise error
        if failed:
            raise SystemExit(1)
        return result


def training_device(device: str) -> str:
    """``auto`` to what Fabric takes for it."""
    if device != "auto":
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _precision(device: str) -> str:
    """Mixed precision where the hardware has it; bfloat16 emulated on a CPU is 90 times slower."""
    cuda = training_device(device) == "cuda"
    supported = cuda and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16-mixed" if supported else "32-true"


def half_precision(device: str) -> torch.dtype | None:
    """bfloat16 where the device computes with it; None where float32 is right.

    Not on CPUs, even those that could: the same seed is to give the same PET on all of them, and
    one that emulates it is 90 times slower.
    """
    cuda = torch.device(device).type == "cuda"
    supported = cuda and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if supported else None


@contextmanager
def sampling_on(device: str, half: torch.dtype | None) -> Iterator[None]:
    """No gradients, and mixed precision with `half`, see `half_precision`."""
    kind = torch.device(device).type
    with torch.inference_mode(), torch.autocast(kind, dtype=half, enabled=half is not None):
        yield


class StopSignals:
    """Notes the first SIGTERM or Ctrl-C, so that a step is ended; a second acts as usual.

    Python lets only the main thread of a process listen; elsewhere this does nothing.
    """

    def __init__(self) -> None:
        self.received = False
        self._former: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._former[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _receive(self, _number: int, _frame: FrameType | None) -> None:
        self.received = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former = {}


@contextmanager
def cpu_threads(threads: int | None) -> Iterator[None]:
    """PyTorch's threads within the block; None leaves them as they are."""
    former = torch.get_num_threads()
    torch.set_num_threads(threads or former)
    try:
        yield
    finally:
        torch.set_num_threads(former)
