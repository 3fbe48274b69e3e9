"""CPU time of one pass of HuBERT-base over a 3 s window, on one core: a yardstick for small models.

The network of Hsu et al., "HuBERT: Self-Supervised Speech Representation Learning by Masked Prediction of Hidden Units"
(IEEE/ACM TASLP 2021), base size, with random weights, which do not change the time. Needs torch and transformers.
usage: python benchmarks/hubert_base.py   -> one JSON object on standard output
"""

from __future__ import annotations

import json
import statistics
import time

import torch

from edge_sser.train.teachers.encoder import quiet_transformers

with quiet_transformers():
    from transformers import HubertConfig, HubertModel

WINDOW_SAMPLES = 48_000  # 3 s at 16 kHz
PARAMETERS = 94_370_944  # of the base size
WARM_UP_PASSES = 2
PASSES = 7


def make_model() -> HubertModel:
    """Makes HuBERT-base without the embedding of masked frames, which serves training only."""
    return HubertModel(HubertConfig(mask_time_prob=0.0)).eval()


def main() -> None:
    """Measures and prints."""
    torch.set_num_threads(1)
    model = make_model()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    if parameters != PARAMETERS:
        raise RuntimeError(f"{parameters} parameters, expected {PARAMETERS}: this is not HuBERT-base")
    samples = torch.randn(1, WINDOW_SAMPLES) * 0.1
    seconds = []
    with torch.inference_mode():
        for _ in range(WARM_UP_PASSES + PASSES):
            start = time.process_time()
            model(samples)
            seconds.append(time.process_time() - start)
    median = statistics.median(seconds[WARM_UP_PASSES:])
    print(json.dumps({"cpu_seconds": median, "parameters": parameters, "torch": torch.__version__}))


if __name__ == "__main__":
    main()
