"""Writes the network of a reference system as ONNX, with a card that says which system it is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import torch
from torch import Tensor, nn

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.errors import ModelError, UsageError, short
from edge_sser.export.card import ELEVATED, HIGH, LICENCES, NOTICE, OUTPUTS
from edge_sser.export.onnx import TOLERANCE, convert, write_model
from edge_sser.model.calibration import Calibration
from edge_sser.model.card import REFERENCE_INPUT
from edge_sser.model.model import CARD_KEY, Card
from edge_sser.model.onnx_backend import cpu_session
from edge_sser.train.data.labels import EMOTIONS, read_preset
from edge_sser.train.references.recipe import ReferenceRecipe
from edge_sser.train.references.system import System

OPSET = 20  # the first with Gelu as one node


class _Exported(nn.Module):
    """A network with the two outputs of a model file: the stress logit from the emotions' probabilities, and theirs."""

    def __init__(self, net: nn.Module, preset: str) -> None:
        super().__init__()
        self.net = net
        self.stressed, self.calm = (
            [EMOTIONS.index(name) for name in read_preset(preset).emotions_with(value)] for value in (1, 0)
        )

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.net(features)
        stress = logits[:, self.stressed].logsumexp(dim=1) - logits[:, self.calm].logsumexp(dim=1)
        return stress, logits


def export_reference(system: System, recipe: ReferenceRecipe, corpora: Sequence[str], path: Path) -> None:
    """Writes the network of a trained system.

    Args:
        system: after its training.
        recipe: of the system.
        corpora: names of those it was trained on.
        path: of the file.

    Raises:
        UsageError: the system has no network.
        ModelError: the network cannot be written as ONNX, or the file computes other logits.
    """
    found = system.network()
    if found is None:
        raise UsageError(f"--onnx {path}: {recipe.name} has no network to write: leave the option out")
    net, example = found
    exported = _Exported(net, "quadrant").eval()
    batch = torch.cat([example, 0.5 * example])
    card = Card(
        name=f"reference-{recipe.name}",
        version="1",
        created=datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z"),
        architecture=recipe.title,
        features={
            "sample_rate": SAMPLE_RATE,
            "window_seconds": system.window_seconds or 0.0,
            "values": example.numel(),
        },
        input=REFERENCE_INPUT,
        outputs=OUTPUTS,
        emotions=EMOTIONS,
        stress_preset="quadrant",
        calibration=Calibration(temperature=1.0, bias=0.0),
        elevated=ELEVATED,
        high=HIGH,
        precision="fp32",
        training=tuple({"name": name, "licence": LICENCES.get(name, "your own")} for name in corpora),
        licence=", ".join(sorted({LICENCES.get(name, "by the terms of your recordings") for name in corpora})),
        accuracy={},
        notice=NOTICE,
    )
    try:
        model = convert(exported, batch, card, OPSET)
    except Exception as error:  # of many unrelated classes, from the exporter
        raise ModelError(f"--onnx {path}: the network cannot be written as ONNX ({short(error)})") from None
    session = cpu_session(model.SerializeToString(), threads=0)
    outputs = session.run(list(card.outputs), {REFERENCE_INPUT: batch.numpy()})
    with torch.inference_mode():
        own = exported(batch)
    difference = max(float(abs(one - other.numpy()).max()) for one, other in zip(outputs, own, strict=True))
    if not difference <= 10 * TOLERANCE:  # networks of 100 layers differ by more than a compact one
        raise ModelError(f"--onnx {path}: the file's logits differ by {difference:.2g} from the network's")
    model.metadata_props.add(key=CARD_KEY, value=card.to_json())
    write_model(path, model)
