"""The column ViT: a transformer whose tokens are columns of the spectrogram, all bands over one or two frames.

Three small convolutions along the bands come before the tokens: without them a voice half a band higher gives entirely
different tokens. Each block has a convolution over neighbouring tokens before its attention, as in the Conformer
(Gulati et al., Interspeech 2020), so that a few hundred speakers suffice for training in place of thousands of hours.
The rest is a standard transformer in plain matrix products that ONNX Runtime and TensorRT support.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge_sser.pipeline.features import FEATURES
from edge_sser.train.students.net import Student, standardise

DEPTH = 4
HEADS = 4
NEIGHBOURS = 9  # tokens in a block's convolution: 0.09 or 0.18 s


class ColumnVit(Student):
    """Column ViT: log-mel windows in, logits out."""

    def __init__(self, *, width: int, token_frames: int, emotions: int, dropout: float) -> None:
        """Builds the network.

        Args:
            width: values in a token, a multiple of 8; with two frames in a token 32 gives 49 k parameters, 64 gives
                178 k, 104 gives 453 k.
            token_frames: frames in a token, 1 or 2.
            emotions: number of classes.
            dropout: share of the pooled features dropped in training, 0..1.
        """
        super().__init__()
        narrow = width // 4
        self.stem = nn.Sequential(
            *_convolution(1, narrow, kernel=5, stride=(2, token_frames)),
            *_convolution(narrow, 2 * narrow, kernel=3, stride=(2, 1)),
            *_convolution(2 * narrow, 2 * narrow, kernel=3, stride=(2, 1)),
        )
        self.column = nn.Linear(2 * narrow * (FEATURES.bands // 8), width)
        self.position = nn.Parameter(0.02 * torch.randn(FEATURES.frames // token_frames, width))
        self.blocks = nn.Sequential(*(_Block(width) for _ in range(DEPTH)))
        self.norm = nn.LayerNorm(width)
        self.attention = nn.Linear(width, 1)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, emotions + 2)

    def embed(self, sound: Tensor) -> Tensor:
        """Returns embeddings, float32 [batch, width], of log-mel windows [batch, frames, bands] in dB."""
        planes = self.stem(standardise(sound).transpose(1, 2).unsqueeze(1))  # [batch, channels, bands / 8, tokens]
        tokens = self.column(planes.flatten(1, 2).transpose(1, 2)) + self.position  # [batch, tokens, width]
        tokens = self.norm(self.blocks(tokens))
        weights = self.attention(tokens).softmax(dim=1)
        pooled: Tensor = (tokens * weights).sum(dim=1)
        return pooled


def _convolution(inputs: int, outputs: int, *, kernel: int, stride: tuple[int, int]) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]


class _Block(nn.Module):
    """Convolution over neighbours, attention and a small perceptron, each on normalised tokens with a residual sum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before_neighbours = nn.LayerNorm(width)
        self.neighbours = nn.Conv1d(width, width, NEIGHBOURS, padding=NEIGHBOURS // 2, groups=width)
        self.before_attention = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.before_perceptron = nn.LayerNorm(width)
        self.perceptron = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.neighbours(self.before_neighbours(tokens).transpose(1, 2)).transpose(1, 2)
        projected = self.queries_keys_values(self.before_attention(tokens))
        # [batch, heads, tokens, width / heads] each
        queries, keys, values = projected.unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        queries = queries * (queries.shape[-1] ** -0.5)
        attended = (queries @ keys.transpose(2, 3)).softmax(dim=-1) @ values
        tokens = tokens + self.out(attended.transpose(1, 2).flatten(2))
        out: Tensor = tokens + self.perceptron(self.before_perceptron(tokens))
        return out
