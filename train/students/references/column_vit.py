"""Column ViT of the SSSR study: a vision transformer whose patches are the columns of a mel image.

The teacher has a convolutional stem that sees two coordinate channels beside the image; the student has half the
blocks and no stem.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

SIDE = 128  # mel bands and columns of the image
WIDTH = 256  # values in a token
HEADS = 5
HEAD_WIDTH = 64
PERCEPTRON = 256
STEM = (3, 16, 32, 64, 32, 16, 1)  # channels; the first three are the image and its two coordinates


class ColumnTransformer(nn.Module):
    """Vision transformer over columns: images float32 [batch, 128 bands, 128 columns] to logits."""

    def __init__(self, *, depth: int, stem: bool, classes: int, dropout: float) -> None:
        """Builds the network.

        Args:
            depth: number of transformer blocks; 6 is the teacher's, 3 the student's.
            stem: convolutions before the columns, with two coordinate channels.
            classes: number of logits.
            dropout: 0..1, of attention, perceptrons and tokens.
        """
        super().__init__()
        self.stem = _Stem() if stem else nn.Identity()
        self.column = nn.Linear(SIDE, WIDTH)
        self.cls = nn.Parameter(0.02 * torch.randn(1, 1, WIDTH))
        self.position = nn.Parameter(0.02 * torch.randn(1, SIDE + 1, WIDTH))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*(_Block(dropout) for _ in range(depth)))
        self.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, classes))

    def cls_features(self, image: Tensor) -> Tensor:
        """Returns the CLS token after the last block: float32 [batch, 256]."""
        tokens = self.column(self.stem(image).transpose(1, 2))  # [batch, columns, width]
        tokens = torch.cat([self.cls.expand(tokens.shape[0], -1, -1), tokens], dim=1) + self.position
        out: Tensor = self.blocks(self.dropout(tokens))[:, 0]
        return out

    def forward(self, image: Tensor) -> Tensor:
        """Returns logits: float32 [batch, classes]."""
        out: Tensor = self.head(self.cls_features(image))
        return out


class _Stem(nn.Module):
    """Convolutions 3 x 3 with instance norm and GELU; the image goes in with its coordinates, an image comes out."""

    coordinates: Tensor

    def __init__(self) -> None:
        super().__init__()
        line = torch.linspace(-1.0, 1.0, SIDE)
        planes = torch.stack(torch.meshgrid(line, line, indexing="ij")).unsqueeze(0)  # [1, 2, bands, columns]
        self.register_buffer("coordinates", planes, persistent=False)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(STEM[:-1]):
            layers += [
                nn.Conv2d(inputs, outputs, 3, padding=1),
                nn.InstanceNorm2d(outputs, affine=True),
                nn.GELU(),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(STEM[-2], STEM[-1], 3, padding=1))

    def forward(self, image: Tensor) -> Tensor:
        planes = torch.cat([image.unsqueeze(1), self.coordinates.expand(image.shape[0], -1, -1, -1)], dim=1)
        out: Tensor = self.layers(planes).squeeze(1)
        return out


class _Block(nn.Module):
    """Attention and a perceptron, each on normalised tokens with a residual sum."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.before_attention = nn.LayerNorm(WIDTH)
        self.queries_keys_values = nn.Linear(WIDTH, 3 * HEADS * HEAD_WIDTH, bias=False)
        self.out = nn.Sequential(nn.Linear(HEADS * HEAD_WIDTH, WIDTH), nn.Dropout(dropout))
        self.perceptron = nn.Sequential(
            nn.LayerNorm(WIDTH),
            nn.Linear(WIDTH, PERCEPTRON),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(PERCEPTRON, WIDTH),
            nn.Dropout(dropout),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        projected = self.queries_keys_values(self.before_attention(tokens))
        queries, keys, values = projected.unflatten(2, (3, HEADS, HEAD_WIDTH)).permute(2, 0, 3, 1, 4)
        # Plain products: on a CPU they train three times as fast as torch's fused attention.
        weights = (queries @ keys.transpose(2, 3) * HEAD_WIDTH**-0.5).softmax(dim=-1)  # [batch, heads, tokens, tokens]
        attended = weights @ values
        tokens = tokens + self.out(attended.transpose(1, 2).flatten(2))
        out: Tensor = tokens + self.perceptron(tokens)
        return out
