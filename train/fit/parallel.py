"""Data-parallel training on the processes of `torchrun`: the same weights as from one process, up to rounding.

Each process computes the embeddings of its rows of a batch. All embeddings are gathered before the loss, so that means
over known labels, correlations and similarities are those of the whole batch, whatever the number of processes. Batch
norm takes its mean and variance over all rows for the same reason.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

_TIMEOUT = timedelta(hours=12)  # processes wait while the first one computes features or a teacher


@dataclass(frozen=True, slots=True)
class World:
    """The processes of a run."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """True for the process that writes files and prints."""
        return self.rank == 0

    def rows(self, batch: int) -> Tensor:
        """Returns this process's rows of a batch: int64, ascending; rows n and batch - 1 - n always go together."""
        rows = torch.arange(batch)
        return rows[torch.minimum(rows, batch - 1 - rows) % self.size == self.rank]

    def gather(self, part: Tensor, batch: int) -> Tensor:
        """Returns the whole batch from the rows of all processes; gradients flow back to the process of a row."""
        if self.size == 1:
            return part
        whole = part.new_zeros(batch, *part.shape[1:]).index_copy(0, self.rows(batch).to(part.device), part)
        return _sum(whole)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Averages gradients over the processes, in place: with `gather`, they are those of the whole batch."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        flat /= self.size
        parts = torch.split(flat, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    @contextmanager
    def main_process_first(self) -> Iterator[None]:
        """Runs a block in the first process, then in the others, which find its files on the disk."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()

    def wait(self) -> None:
        """Waits until all processes have called this method (a barrier)."""
        if self.size > 1:
            distributed.barrier()

    def close(self) -> None:
        """Leaves the process group."""
        if self.size > 1:
            distributed.destroy_process_group()


def join_world() -> World:
    """Joins the process group of `torchrun`; returns a World of one process without it."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return World()
    if not distributed.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=_TIMEOUT)
    return World(distributed.get_rank(), distributed.get_world_size())


def share_batch_norm(net: nn.Module, world: World) -> None:
    """Replaces the batch norms of a network by ones with statistics over all processes; names in its state stay.

    torch's own SyncBatchNorm works on GPUs only.
    """
    if world.size == 1:
        return
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, _BatchNorm):
                setattr(module, name, _SharedBatchNorm(child))


class _SharedBatchNorm(nn.Module):
    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean: Tensor
        self.running_var: Tensor
        self.num_batches_tracked: Tensor
        for name, buffer in norm.named_buffers():
            self.register_buffer(name, buffer)
        self.epsilon, self.momentum = norm.eps, norm.momentum or 0.0

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.epsilon)
        x = x.float()
        over = [axis for axis in range(x.dim()) if axis != 1]
        shape = [-1 if axis == 1 else 1 for axis in range(x.dim())]
        count = _sum(x.new_tensor([float(x.numel() // x.shape[1])]))
        mean = _sum(x.sum(dim=over)) / count
        centred = x - mean.view(shape)
        variance = _sum(centred.square().sum(dim=over)) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight * (variance + self.epsilon).rsqrt()
        return centred * scale.view(shape) + self.bias.view(shape)


class _Sum(torch.autograd.Function):
    """Sum over the processes: of values in the forward pass, of gradients in the backward pass."""

    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        total = value.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        distributed.all_reduce(total)
        return total


def _sum(value: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(value)  # type: ignore[no-untyped-call]
    return total
