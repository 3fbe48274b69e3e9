"""Column ViTs, image networks and the features study: sizes, front ends, and a short training of each recipe."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from voices import RATE, voice

torch = pytest.importorskip("torch", reason='pip install "edge-sser[train,references]"')

from torch.nn import functional as F  # noqa: E402

from edge_sser.errors import SettingsError, TrainingError  # noqa: E402
from edge_sser.train.references import columns, crema_features, images  # noqa: E402
from edge_sser.train.references.recipe import read_reference_recipe  # noqa: E402
from edge_sser.train.references.registry import make  # noqa: E402
from edge_sser.train.references.system import Clip  # noqa: E402
from edge_sser.train.students.references.column_vit import ColumnTransformer  # noqa: E402
from edge_sser.train.students.references.feature_cnns import (  # noqa: E402
    Pooling,
    make_dummynet,
    make_exponet,
    make_rezonet,
)
from edge_sser.train.students.references.images import ImageKind, ImageNet  # noqa: E402

RECIPES = (
    "column-vit-student",
    "column-vit-teacher",
    "densenet161-mel",
    "dummynet",
    "exponet",
    "exponet-mel",
    "resnet50-mel",
    "resnext50-mel",
    "rezonet",
)


def size(net: torch.nn.Module) -> int:
    return sum(value.numel() for value in net.parameters())


def clips(count: int, *, seconds: float = 1.0) -> list[Clip]:
    """Voices of two emotions."""
    out = []
    for number in range(count):
        pitch = (120.0, 240.0)[number % 2]
        samples = voice(pitch_hz=pitch, syllables_hz=3.0, seconds=seconds, seed=number).astype(np.float32)
        out.append(Clip(samples, (1, 4)[number % 2], "toy"))
    return out


def test_column_vits_have_the_published_sizes():
    teacher = ColumnTransformer(depth=6, stem=True, classes=8, dropout=0.4)
    student = ColumnTransformer(depth=3, stem=False, classes=8, dropout=0.4)
    assert [round(size(net) / 1e6, 1) for net in (teacher, student)] == [2.9, 1.5]


@pytest.mark.parametrize(
    ("kind", "published"),
    [(ImageKind.DENSENET161, 28_681_000), (ImageKind.RESNET50, 25_557_032), (ImageKind.RESNEXT50, 25_028_904)],
)
def test_image_networks_have_the_published_sizes(kind: ImageKind, published: int):
    assert size(ImageNet(kind, classes=1000)) == published


@pytest.mark.parametrize(
    ("make_net", "rows", "flattened", "largest"),
    [(make_dummynet, 40, 114, 1.8), (make_rezonet, 40, 41, 0.3), (make_exponet, 42, 62, 2.4)],
)
def test_the_flatten_has_the_published_size_and_the_mean_a_fraction_of_it(make_net, rows, flattened, largest):
    with torch.device("meta"):
        original = make_net(rows=rows, classes=6, pooling=Pooling.FLATTEN)
        pooled = make_net(rows=rows, classes=6, pooling=Pooling.MEAN)
        assert original(torch.empty(2, rows, 641)).shape == (2, 6)
    assert round(size(original) / 1e6) == flattened
    assert round(size(pooled) / 1e6, 1) == largest


def test_rezonet_convolves_along_time_alone():
    net = make_rezonet(rows=40, classes=8, pooling=Pooling.MEAN).eval()
    sound = torch.randn(1, 40, 64)
    changed = sound.clone()
    changed[:, 7] += 1.0
    with torch.inference_mode():
        moved = (net.convolutions(sound) != net.convolutions(changed)).any(dim=1)[0].any(dim=-1)
    assert moved.nonzero().flatten().tolist() == [7]


@pytest.mark.parametrize(
    ("front_end", "shape"),
    [
        (columns.mel_image, (128, 128)),
        (lambda samples: images.mel_image(samples, images.Scaling.Z_SCORE), (128, 63)),
        (lambda samples: images.mel_image(samples, images.Scaling.MIN_MAX), (128, 63)),
        *(
            (lambda samples, kind=kind: crema_features.features(samples, kind), (kind.rows, 251))
            for kind in crema_features.Features
        ),
    ],
)
def test_no_front_end_sees_the_gain(front_end, shape):
    samples = voice(pitch_hz=150.0, syllables_hz=3.0, seconds=2.0, seed=1).astype(np.float32)
    plain, louder = front_end(samples), front_end(2.0 * samples)
    assert tuple(plain.shape) == shape
    assert torch.allclose(plain, louder, atol=0.02)
    assert not torch.allclose(plain, front_end(samples[::-1].copy()), atol=0.02)


def test_digital_silence_gives_finite_inputs():
    silence = np.zeros(2 * RATE, np.float32)
    for scaling in images.Scaling:
        assert images.mel_image(silence, scaling).isfinite().all()
    assert columns.mel_image(silence).isfinite().all()
    assert crema_features.features(silence, crema_features.Features.ALL).isfinite().all()


def test_the_shift_of_images_is_circular_and_differs_by_image():
    plain = torch.randn(8, 4, 50)
    shifted = images.alter_images(plain, torch.Generator().manual_seed(1), bands=0, frames=0, shift=0.5)
    steps = [
        next((step for step in range(50) if torch.equal(image.roll(step, dims=1), moved)), None)
        for image, moved in zip(plain, shifted, strict=True)
    ]
    assert None not in steps
    assert len(set(steps)) > 1


def test_the_masks_of_images_are_stripes_of_the_mean():
    plain = torch.randn(40, 32, 50)
    masked = images.alter_images(plain, torch.Generator().manual_seed(1), bands=6, frames=9, shift=0.0)
    changed = masked != plain
    assert torch.allclose(masked[changed], plain.mean(dim=(1, 2))[:, None, None].expand_as(plain)[changed])
    rows, frames = changed.all(dim=2).sum(dim=1), changed.all(dim=1).sum(dim=1)
    assert torch.equal(changed, changed.all(dim=2, keepdim=True) | changed.all(dim=1, keepdim=True))
    assert sorted({*rows.tolist()}) == list(range(7))
    assert 0 < frames.max() <= 9


def test_the_student_learns_from_labels_and_the_teachers_token():
    recipe = read_reference_recipe("column-vit-student", ["settings.depth=1", "settings.teacher_depth=1"])
    student = make(recipe.system, recipe.settings, 1)
    assert isinstance(student, columns.Student)
    pictures, labels = torch.randn(4, 128, 128), torch.tensor([1, 4, 1, 4])
    for net in (student.net, student.teacher.net):
        net.eval()
    with torch.inference_mode():
        loss = student.loss(pictures, labels)
        again = student.loss(pictures[[2, 0]], labels[[2, 0]])  # the teacher's tokens are kept by now
        apart = (student.net.cls_features(pictures) - student.teacher.net.cls_features(pictures)).abs()
        expected = F.cross_entropy(student.net(pictures), labels) + 10.0 * apart.mean()
        chosen = F.cross_entropy(student.net(pictures[[2, 0]]), labels[[2, 0]]) + 10.0 * apart[[2, 0]].mean()
    assert torch.allclose(loss, expected, atol=1e-4)
    assert torch.allclose(again, chosen, atol=1e-4)


@pytest.mark.parametrize("name", RECIPES)
def test_each_recipe_trains_a_few_steps(name: str):
    changes = ["settings.training.epochs=2", "settings.training.batch=4"]
    if name == "column-vit-student":
        changes += ["settings.teacher.epochs=1", "settings.teacher.batch=4"]
    if name == "densenet161-mel":
        changes[0] = "settings.training.epochs=1"
    recipe = read_reference_recipe(name, changes)
    system = make(recipe.system, recipe.settings, 1)
    before = [value.clone() for value in system.network()[0].parameters()]
    figures: list[dict[str, float]] = []
    system.fit(clips(4), [], lambda epoch: figures.append(dict(epoch)))
    found = system.probabilities([clip.samples for clip in clips(2, seconds=6.0)])
    assert figures
    assert all(math.isfinite(value) for epoch in figures for value in epoch.values())
    assert found.shape == (2, 8)
    assert np.allclose(found.sum(axis=1), 1.0)
    assert any(not torch.equal(old, new) for old, new in zip(before, system.network()[0].parameters(), strict=True))


def test_a_network_learns_to_tell_two_voices():
    recipe = read_reference_recipe("rezonet", ["settings.training.epochs=10", "settings.training.batch=4"])
    system = make(recipe.system, recipe.settings, 1)
    system.fit(clips(16), [], lambda epoch: None)
    found = system.probabilities([clip.samples for clip in clips(6, seconds=2.0)])
    assert found.argmax(axis=1).tolist() == [1, 4, 1, 4, 1, 4]


def test_random_weights_are_remarked():
    recipe = read_reference_recipe("resnet50-mel")
    assert "random" in make(recipe.system, recipe.settings, 1).remark


@pytest.mark.parametrize(("name", "content"), [("missing.pth", None), ("text.pth", b"no weights"), ("other.pth", {})])
def test_wrong_weights_are_one_line_that_says_what_to_give(tmp_path: Path, name: str, content):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save({"fc.weight": torch.zeros(1)}, path)
    with pytest.raises(TrainingError, match=r"(?s)weights .*resnet50") as caught:
        ImageNet(ImageKind.RESNET50, classes=8, weights=str(path))
    assert "\n" not in str(caught.value)


def test_weights_of_a_file_are_loaded(tmp_path: Path):
    source = ImageNet(ImageKind.RESNET50, classes=1000)
    torch.save(source.body.state_dict(), tmp_path / "resnet50.pth")
    loaded = ImageNet(ImageKind.RESNET50, classes=8, weights=str(tmp_path / "resnet50.pth"))
    assert torch.equal(loaded.body.layer4[2].conv3.weight, source.body.layer4[2].conv3.weight)
    assert loaded.body.fc.out_features == 8


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("dummynet", "settings.pooling=flatten", "windows.seconds to 5.12"),
        ("exponet", "settings.features=pitch", "features"),
        ("column-vit-teacher", "settings.kind=student", "kind"),
        ("resnet50-mel", "settings.kind=vgg", "kind"),
    ],
)
def test_wrong_settings_name_the_key(name: str, change: str, said: str):
    recipe = read_reference_recipe(name, [change])
    with pytest.raises(SettingsError, match=said):
        make(recipe.system, recipe.settings, 1)
