"""One run on several processes, as `torchrun` starts them: the same weights as one process would give, up to rounding.

Each process computes the embeddings of its rows of a batch. They are put together before the loss, so that means over
known labels, correlations and similarities are those of the whole batch, whatever the number of processes; batch norm
takes its mean and variance over all rows for the same reason.
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

_PATIENCE = timedelta(hours=12)  # processes wait while the first one computes features or a teacher


@dataclass(frozen=True, slots=True)
class World:
    """The processes of a run."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes files and speaks."""
        return self.rank == 0

    def rows(self, batch: int) -> Tensor:
        """This process's rows of a batch: int64, ascending, with row n always row batch - 1 - n."""
        rows = torch.arange(batch)
        return rows[torch.minimum(rows, batch - 1 - rows) % self.size == self.rank]

    def gather(self, part: Tensor, batch: int) -> Tensor:
        """The whole batch from each process's rows; gradients flow back to the process that a row came from."""
        if self.size == 1:
            return part
        whole = part.new_zeros(batch, *part.shape[1:]).index_copy(0, self.rows(batch).to(part.device), part)
        return _sum(whole)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """The mean over the processes, in place: with `gather`, the gradient of the whole batch."""
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
    def in_turn(self) -> Iterator[None]:
        """The first process does it while the others wait; then they do it, and find what it left on the disk."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            distributed.barrier()

    def leave(self) -> None:
        """Ends what `join_world` began."""
        if self.size > 1:
            distributed.destroy_process_group()


def join_world() -> World:
    """Joins the processes that `torchrun` started; a World of one without it."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return World()
    if not distributed.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=_PATIENCE)
    return World(distributed.get_rank(), distributed.get_world_size())


def share_batch_norm(net: nn.Module, world: World) -> None:
    """Makes the batch norms of a net take their statistics over all processes. Names in its state stay the same.

    torch's own SyncBatchNorm does it on GPUs only.
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
    """Sum over the processes, of values on the way forward and of gradients on the way back."""

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
