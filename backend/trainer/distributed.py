"""Training on several GPUs of one machine: a process each, one of which is the run.

The first process trains as on one GPU. For each update it takes as many batches as there are processes,
gives every other process (a helper) the adapter's weights and one batch with its noise and noise levels,
and sums the gradients up. Helpers keep no state: order, randomness, optimizer, moving average, samples,
saving, stopping and resuming stay in the first process, so a run equals one on a single GPU with
``gradient_accumulation`` times as large, whatever happens to it. What travels a step is what data-parallel
training always exchanges, the adapter's weights and gradients: some hundred megabytes, milliseconds over
NVLink. The base model fits each GPU whole, so nothing of it is sharded (no FSDP).
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import Store, TCPStore

from backend.trainer.batches import Batch
from backend.trainer.buckets import Bucket
from backend.trainer.errors import TrainingError
from backend.trainer.lora import Lora
from backend.trainer.step import Draws, TrainStep
from config.schema import RunConfig

_FOREVER = datetime.timedelta(days=2)  # samples and saving keep helpers waiting
_START = 900.0  # seconds within which helpers must have loaded the model
_END = 30.0


def processes_wanted(config: RunConfig, device: torch.device) -> int:
    """On how many GPUs a run trains: ``train.gpus``; ``auto`` is what its Modal container was given."""
    wanted = config.process.train.gpus
    if device.type == "cuda":
        there = torch.cuda.device_count()
        if wanted == "auto":
            return there if os.environ.get("MODAL_TASK_ID") else 1
        if wanted > there:
            raise TrainingError(
                f"train.gpus is {wanted}, but this machine has {there}", "no_device", bad_input=True
            )
    return 1 if wanted == "auto" else wanted


class Team:
    """The first process's view of all processes.

    Args:
        size: Processes, this one included.
        folder: The run's folder, whose config the helpers read.
        device: This process's device.
        shapes: Of the batches to come, as :func:`.assembly.assemble` takes them.
        text_tokens: Length of a text.
        seed: The run's.

    Raises:
        TrainingError: A helper did not start.
    """

    def __init__(
        self,
        size: int,
        folder: Path,
        device: torch.device,
        shapes: Mapping[tuple[Bucket, int], int],
        text_tokens: int,
        seed: int,
    ) -> None:
        self.size = size
        self._device = device
        port = _free_port()
        self._logs = [
            tempfile.TemporaryFile(mode="w+", encoding="utf-8")  # noqa: SIM115 - close() does
            for _ in range(1, size)
        ]
        order = {
            "folder": str(folder),
            "size": size,
            "port": port,
            "device": device.type,
            "seed": seed,
            "text_tokens": text_tokens,
            "threads": torch.get_num_threads(),
            "shapes": [(b.width, b.height, count, number) for (b, count), number in shapes.items()],
        }
        self._helpers = [
            subprocess.Popen(
                [sys.executable, "-m", "backend.trainer.distributed", json.dumps(order | {"rank": rank})],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            for rank, log in enumerate(self._logs, start=1)
        ]
        self._store = TCPStore("127.0.0.1", port, size, is_master=True, wait_for_workers=False)
        self._joined = False

    def join(self) -> None:
        """Wait until the helpers are ready.

        Raises:
            TrainingError: One ended.
        """
        until = time.monotonic() + _START
        while not self._store.check([f"ready{rank}" for rank in range(1, self.size)]):
            self._look()
            if time.monotonic() > until:
                raise TrainingError("the processes of the other GPUs did not start", "helper_lost")
            time.sleep(0.05)
        _connect(0, self.size, self._store, self._device)
        self._joined = True

    def update(self, step: TrainStep, lora: Lora, batches: Sequence[Batch]) -> torch.Tensor:
        """Gradients of the mean loss over ``batches``, summed up over all processes; returns that loss.

        Args:
            step: Draws the noise, and computes this process's part.
            lora: Gets the gradients.
            batches: In the order in which one process would train them.

        Raises:
            TrainingError: A helper ended.
        """
        self._look()
        drawn = [(batch, step.draws(batch)) for batch in batches]
        packed = [_pack(batch, draws) for batch, draws in drawn]
        layout = [[item[0] for item in packed[rank :: self.size]] for rank in range(self.size)]
        share = 1.0 / len(batches)
        try:
            dist.broadcast_object_list([{"layout": layout, "share": share}], src=0, group=_CONTROL[0])
            dist.broadcast(_weights(lora), src=0)
            for rank in range(1, self.size):
                for _, payload in packed[rank :: self.size]:
                    dist.send(payload.to(self._device), dst=rank)
            total = torch.zeros((), device=self._device)
            for batch, draws in drawn[:: self.size]:
                total += step.backward(batch, draws, share)
            _reduce(lora, total)
        except RuntimeError as error:
            self._look()
            if not isinstance(error, dist.DistError) and "gloo" not in str(error).lower():
                raise
            raise TrainingError(f"the process of another GPU is gone: {error}", "helper_lost") from error
        return total

    def close(self) -> None:
        """End the helpers."""
        if self._joined:
            with contextlib.suppress(RuntimeError):
                dist.broadcast_object_list([None], src=0, group=_CONTROL[0])
        for helper in self._helpers:
            try:
                helper.wait(_END if self._joined else 0.0)
            except subprocess.TimeoutExpired:
                helper.kill()
                helper.wait()
        if self._joined:
            dist.destroy_process_group()
            self._joined = False
        for log in self._logs:
            log.close()

    def _look(self) -> None:
        for rank, (helper, log) in enumerate(zip(self._helpers, self._logs, strict=True), start=1):
            if helper.poll() is None:
                continue
            log.seek(0)
            said = [line for line in log.read().splitlines() if line.strip()]
            last = said[-1] if said else "it said nothing"
            raise TrainingError(
                f"the process of GPU {rank} ended with {helper.returncode}: {last}",
                "out_of_memory" if "OutOfMemory" in "".join(said[-5:]) else "helper_lost",
            )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


_CONTROL: list[Any] = [None]  # the group that carries plain objects, over the CPU


def _connect(rank: int, size: int, store: Store, device: torch.device) -> None:
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_FOREVER)
    _CONTROL[0] = dist.new_group(backend="gloo", timeout=_FOREVER)


def _weights(lora: Lora) -> torch.Tensor:
    if lora.flat is not None:
        weights: torch.Tensor = lora.flat.master.detach()
        return weights
    return torch.cat([parameter.detach().reshape(-1) for parameter in lora.parameters.values()])


def _reduce(lora: Lora, total: torch.Tensor) -> None:
    """Sum gradients and losses up in the first process."""
    if lora.flat is not None and lora.flat.master.grad is not None:
        dist.reduce(lora.flat.master.grad, dst=0)
    else:
        parameters = list(lora.parameters.values())
        grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        flat = torch.cat([grad.reshape(-1) for grad in grads])
        dist.reduce(flat, dst=0)
        for parameter, grad in zip(parameters, _parts(flat, parameters), strict=True):
            parameter.grad = grad.clone()
    dist.reduce(total, dst=0)


def _parts(flat: torch.Tensor, like: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    parts = torch.split(flat, [tensor.numel() for tensor in like])
    return [part.view(tensor.shape) for part, tensor in zip(parts, like, strict=True)]


Layout = dict[str, Any]  # a batch's plain values; of its tensors the number format and shape


def _pack(batch: Batch, draws: Draws) -> tuple[Layout, torch.Tensor]:
    """A batch and its noise as one buffer of bytes, and how to read it."""
    layout: Layout = {}
    parts: list[torch.Tensor] = []
    named = {field.name: getattr(batch, field.name) for field in fields(batch)}
    named |= {f"draws.{field.name}": getattr(draws, field.name) for field in fields(draws)}
    for name, value in named.items():
        if isinstance(value, torch.Tensor):
            layout[name] = (value.dtype, tuple(value.shape))
            flat = value.detach().contiguous().view(-1).view(torch.uint8)
            parts.append(torch.nn.functional.pad(flat, (0, -flat.numel() % 16)))
        else:
            layout[name] = value
    return layout, torch.cat(parts)


def _unpack(layout: Mapping[str, Any], payload: torch.Tensor) -> tuple[Batch, Draws]:
    found: dict[str, Any] = {}
    at = 0
    for name, value in layout.items():
        if not isinstance(value, tuple):
            found[name] = value
            continue
        dtype, shape = value
        count = _bytes(dtype, shape)
        found[name] = payload[at : at + count].view(dtype).view(shape)
        at += count + -count % 16
    drawn = {field.name: found.pop(f"draws.{field.name}") for field in fields(Draws)}
    return Batch(**found), Draws(**drawn)


def _bytes(dtype: torch.dtype, shape: Sequence[int]) -> int:
    return torch.Size(shape).numel() * dtype.itemsize


def _length(layout: Mapping[str, Any]) -> int:
    sizes = [_bytes(*value) for value in layout.values() if isinstance(value, tuple)]
    return sum(size + -size % 16 for size in sizes)


def help_out(order: Mapping[str, Any]) -> int:
    """A helper's life: load the model, then compute gradients until the first process says it is over."""
    from backend.runs.folder import RunFolder
    from backend.trainer.assembly import assemble
    from backend.trainer.attempt import read_config
    from backend.trainer.control import StopControl
    from backend.trainer.devices import prepare_device
    from backend.trainer.inputs import open_base_model
    from backend.trainer.memory import recomputed_bytes
    from backend.trainer.optimizer import choose_optimizer
    from backend.trainer.report import Reporter
    from backend.trainer.session import quiet_libraries

    rank, size = int(order["rank"]), int(order["size"])
    quiet_libraries()
    if order["device"] == "cuda":
        device = torch.device("cuda", rank)
        torch.cuda.set_device(device)
    else:
        device = torch.device(order["device"])
        torch.set_num_threads(int(order["threads"]))
    prepare_device(device)
    report = Reporter(None)
    process = read_config(RunFolder(Path(order["folder"])), report).process
    base = open_base_model(process, device, report, StopControl(None, lambda: None))
    shapes = {(Bucket(width, height), count): number for width, height, count, number in order["shapes"]}
    text_tokens = int(order["text_tokens"])
    made = assemble(
        base.transformer(
            None, lambda model: recomputed_bytes(model, process.network.rank, shapes, text_tokens)
        ),
        process,
        choose_optimizer(process.train, device, report),
        seed=int(order["seed"]),
        device=device,
        report=report,
        shapes=shapes,
        text_tokens=text_tokens,
    )
    store = TCPStore("127.0.0.1", int(order["port"]), size, is_master=False)
    store.set(f"ready{rank}", "1")
    _connect(rank, size, store, device)
    while True:
        said: list[Any] = [None]
        dist.broadcast_object_list(said, src=0, group=_CONTROL[0])
        if said[0] is None:
            dist.destroy_process_group()
            return 0
        _take_weights(made.lora)
        if made.fast is not None:
            made.fast.refresh()
        total = torch.zeros((), device=device)
        for layout in said[0]["layout"][rank]:
            payload = torch.empty(_length(layout), dtype=torch.uint8, device=device)
            dist.recv(payload, src=0)
            total += made.step.backward(*_unpack(layout, payload), said[0]["share"])
        _reduce(made.lora, total)
        made.optimizer.zero_grad()


@torch.no_grad()
def _take_weights(lora: Lora) -> None:
    weights = _weights(lora)
    dist.broadcast(weights, src=0)
    if lora.flat is None:
        parameters = list(lora.parameters.values())
        for parameter, value in zip(parameters, _parts(weights, parameters), strict=True):
            parameter.copy_(value)


if __name__ == "__main__":
    sys.exit(help_out(json.loads(sys.argv[1])))
