"""CPU time of one pass of HuBERT-base over a 3 s window, on one core: a yardstick for small models.

The network of Hsu et al., "HuBERT: Self-Supervised Speech Representation Learning by Masked Prediction of Hidden Units"
(IEEE/ACM TASLP 2021), base size, with random weights, which do not change the time. Needs torch.
usage: python benchmarks/hubert_base.py   -> one JSON object on standard output
"""

from __future__ import annotations

import json
import statistics
import time

import torch
from torch import nn

WINDOW_SAMPLES = 48_000  # 3 s at 16 kHz
PARAMETERS = 94_370_944  # of the base size
WARM_UP_PASSES = 2
PASSES = 7
# (channels, kernel, stride) of the convolutions over samples: 320 samples a frame
CONVOLUTIONS = ((512, 10, 5), *((512, 3, 2),) * 4, *((512, 2, 2),) * 2)
WIDTH, HEADS, HIDDEN, LAYERS = 768, 12, 3072, 12
POSITION_KERNEL, POSITION_GROUPS = 128, 16


class HubertBase(nn.Module):
    """HuBERT-base: samples in, hidden states out."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 1
        for index, (channels, kernel, stride) in enumerate(CONVOLUTIONS):
            layers.append(nn.Conv1d(inputs, channels, kernel, stride, bias=False))
            if index == 0:
                layers.append(nn.GroupNorm(channels, channels))
            layers.append(nn.GELU())
            inputs = channels
        self.features = nn.Sequential(*layers)
        self.projection = nn.Sequential(nn.LayerNorm(inputs), nn.Linear(inputs, WIDTH))
        position = nn.Conv1d(WIDTH, WIDTH, POSITION_KERNEL, padding=POSITION_KERNEL // 2, groups=POSITION_GROUPS)
        self.position = nn.utils.parametrizations.weight_norm(position, dim=2)
        self.norm = nn.LayerNorm(WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, HIDDEN, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, LAYERS)

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        """Returns hidden states, float32 [batch, frames, 768], of samples, float32 [batch, samples]."""
        x = self.projection(self.features(samples[:, None]).transpose(1, 2))
        position = self.position(x.transpose(1, 2))[..., : x.shape[1]]  # an even kernel gives one frame too many
        hidden: torch.Tensor = self.encoder(self.norm(x + nn.functional.gelu(position).transpose(1, 2)))
        return hidden


def main() -> None:
    """Measures and prints."""
    torch.set_num_threads(1)
    model = HubertBase().eval()
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
