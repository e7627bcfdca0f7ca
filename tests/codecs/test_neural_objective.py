"""What networks are trained for: bits are those of the code, gradients those of the papers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from mroi.codecs import ChunkSpec
from mroi.codecs.neural import models
from mroi.codecs.neural.latent import Model
from mroi.codecs.neural.network import at_least
from mroi.codecs.neural.objective import SIZES, RateDistortion
from mroi.codecs.neural.one_thread import one_thread
from mroi.codecs.neural.shapes import Config, tensors
from mroi.codecs.neural.tcm import Tcm
from mroi.training.slices import Stack

TINY = models.find("tiny-tcm")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread:
        yield


def batch(objective: RateDistortion, planes: list[np.ndarray], bits: int = 8) -> torch.Tensor:
    return objective.batch([Stack(one, bits) for one in planes], np.random.default_rng(0))


def pictures(count: int, size: int = 128) -> list[np.ndarray]:
    place = np.indices((count, size, size))
    disc = (place[1] - size / 2) ** 2 + (place[2] - size / 2) ** 2 < (size / 3) ** 2
    shade = 150 + 60 * np.sin(place[1] / 5) * np.cos(place[2] / 7) + 30 * (place[0] % 2)
    return list(np.where(disc, shade, 20).round().astype("u1")[:, None])


def test_bits_and_errors_are_those_of_the_codec() -> None:
    """Rounded, the loss says how long the code is and how far decoded voxels are off."""
    planes = pictures(3)
    objective = RateDistortion.of(TINY, 0.01)
    with torch.no_grad():
        loss = objective.loss(batch(objective, planes), None)
    model = Model(TINY, Config.from_json(TINY.config))
    coded = [model.encode(plane.astype(np.float32) / 255) for plane in planes]
    bits = 8 * sum(len(code) - 8 for code, _, _ in coded)  # without the states of the coder
    assert loss.rate.item() * 3 * 128**2 == pytest.approx(bits, rel=0.03)
    codec = Tcm("tiny-tcm")
    chunk = np.concatenate(planes)
    spec = ChunkSpec(chunk.shape, chunk.dtype, 8)
    decoded = codec.decode(codec.encode(chunk, spec), spec)
    error = ((decoded.astype(float) - chunk) ** 2).mean() / 255**2
    # A gray slice is three channels for the network, whose mean is nearer than each of them.
    assert error <= loss.error.item() < 1.1 * error + 1e-4
    assert loss.total.item() == pytest.approx(
        0.01 * 255**2 * loss.error.item() + loss.rate.item(), rel=1e-5
    )


@pytest.mark.parametrize("architecture", ["tcm", "tcm-auxt"])
def test_a_batch_is_what_its_pictures_are(architecture: str) -> None:
    header = models.find(f"tiny-{architecture}")
    objective = RateDistortion.of(header, 0.01)
    planes = pictures(2, 64)
    with torch.no_grad():
        both = objective.loss(batch(objective, planes), None)
        alone = [objective.loss(batch(objective, [one]), None) for one in planes]
    for name in ("rate", "error"):
        mean = sum(getattr(one, name).item() for one in alone) / 2
        assert getattr(both, name).item() == pytest.approx(mean, rel=1e-4)


def test_slices_go_into_channels_as_the_codec_puts_them() -> None:
    objective = RateDistortion.of(TINY, 0.01, channels="neighbours")
    assert objective.thick == 3
    given = np.arange(3 * 64 * 64).reshape(3, 64, 64).astype("u2")
    (three,) = batch(objective, [given], 14)
    np.testing.assert_allclose(three.numpy(), given / 16383, rtol=1e-6)
    (two,) = batch(objective, [given[:2]], 14)
    assert torch.equal(two[1], two[2])
    (one,) = batch(objective, [given[:1]], 14)
    assert torch.equal(one[0], one[2])


@pytest.mark.parametrize("architecture", ["tcm", "tcm-auxt"])
def test_every_weight_is_trained(architecture: str) -> None:
    """Gradients reach all tensors, and only what is fixed has none."""
    objective = RateDistortion.begin(architecture, SIZES["tiny"], 0.01, 0)
    one = batch(objective, pictures(1, 64))
    objective.loss(one, torch.Generator().manual_seed(0)).total.backward()
    without = [name for name, tensor in objective.trained.items() if tensor.grad is None]
    assert without == []
    fixed = tensors(SIZES["tiny"].config, auxiliary=True).keys() - objective.trained.keys()
    if architecture == "tcm-auxt":
        assert {name.split(".")[2] for name in fixed} == {"dwt", "idwt"}
        assert len(fixed) == 4 * 4 + 4
    quantiles = objective.settled["entropy_bottleneck.quantiles"]
    assert quantiles.grad is None
    objective.settle().backward()
    assert quantiles.grad is not None
    assert (quantiles.grad != 0).all()


def test_linear_layers_of_auxt_are_kept_near_orthogonal_ones() -> None:
    objective = RateDistortion.begin("tcm-auxt", SIZES["tiny"], 0.01, 0)
    one = batch(objective, pictures(1, 64))
    random = torch.Generator()
    with torch.no_grad():
        before = objective.loss(one, random.manual_seed(0))
        weights = [t for n, t in objective.trained.items() if n.endswith("OLP.linear.weight")]
        assert len(weights) == 8
        expected = 0.0
        for weight in weights:
            gram = weight @ weight.T if len(weight) < weight.shape[1] else weight.T @ weight
            expected += 0.1 * ((gram - torch.eye(len(gram))) ** 2).mean().item()
    rest = 0.01 * 255**2 * before.error.item() + before.rate.item()
    assert before.total.item() - rest == pytest.approx(expected, rel=1e-3)


def test_first_weights_depend_on_the_seed_alone() -> None:
    one, same, other = (
        RateDistortion.begin("tcm", SIZES["tiny"], 0.01, seed).trained for seed in (1, 1, 2)
    )
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["g_a.0.conv1.weight"], other["g_a.0.conv1.weight"])
    assert torch.equal(one["g_a.0.gdn.gamma"], other["g_a.0.gdn.gamma"])


def test_a_model_begun_again_is_the_same() -> None:
    header, kept = RateDistortion.of(TINY, 0.01).model({})
    assert header.id == TINY.id
    assert kept.keys() == load_file(TINY.path).keys()


def test_bounds_let_gradients_through_that_raise() -> None:
    x = torch.tensor([-1.0, -1.0, 2.0, 2.0], requires_grad=True)
    bounded = at_least(x, 0.5)
    assert bounded.tolist() == [0.5, 0.5, 2, 2]
    (bounded * torch.tensor([1.0, -1.0, 1.0, -1.0])).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, -1, 1, -1]
