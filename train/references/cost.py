"""Size and cost of a reference system: parameters, operations and CPU time of a window."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.commands.bench import this_machine
from edge_sser.train.references.system import System

DEFAULT_SECONDS = 3.0  # of a window for a system that takes whole clips
ROUNDS = 15
LIMIT_SECONDS = 10.0  # of measuring a figure


def measure_cost(system: System) -> dict[str, Any]:
    """Measures a system on one thread; figures that it does not have are None.

    Returns:
        parameters: number of them.
        mflops: million floating-point operations of the network a window, as torch.utils.flop_counter counts them:
            a multiplication with its addition is two, and only products of matrices and convolutions count.
        cpu_ms: CPU time of the network a window, or of all with its front end for a system without a network, ms.
        front_end_ms: CPU time of the front end a window, ms.
        window_s: length of the window, seconds.
        machine: that measured.
    """
    seconds = system.window_seconds or DEFAULT_SECONDS
    random = np.random.default_rng(0)

    def noise() -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        return 0.1 * random.standard_normal(round(seconds * SAMPLE_RATE), dtype=np.float32)

    facts: dict[str, Any] = {"parameters": system.parameters, "mflops": None, "front_end_ms": None}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        network = system.network()
        if network is None:
            facts["cpu_ms"] = _median_ms(lambda: system.probabilities([noise()]))
        else:
            net, example = network
            with torch.inference_mode():
                facts["cpu_ms"] = _median_ms(lambda: net(example))
            facts["front_end_ms"] = _median_ms(lambda: system.front_end_window(noise()))
            facts["mflops"] = round(operations(net, example) / 1e6, 3)
    finally:
        torch.set_num_threads(threads)
    return {**facts, "window_s": seconds, "machine": this_machine()["machine"]}


def operations(net: nn.Module, example: Tensor) -> int:
    """Counts the floating-point operations of a network.

    Args:
        net: in evaluation mode.
        example: its input.
    """
    # Fused kernels of LSTM, attention and whole transformer layers are unknown to the counter, so they are taken apart.
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    counter = FlopCounterMode(display=False)
    try:
        with (
            warnings.catch_warnings(),
            torch.no_grad(),
            sdpa_kernel(SDPBackend.MATH),
            counter,
        ):
            warnings.simplefilter("ignore")  # about processors other than this one
            with torch.backends.mkldnn.flags(enabled=False):
                net(example)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return int(counter.get_total_flops())


def _median_ms(work: Callable[[], Any]) -> float:
    """Returns the median CPU time of some work, ms: of `ROUNDS` after a warm-up, or of fewer that take long."""
    work()
    times: list[float] = []
    while len(times) < ROUNDS and sum(times) < LIMIT_SECONDS:
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return round(1000.0 * statistics.median(times), 3)
