"""The network of `bcm-net`: names, numbers of the authors' program, and what training minimises."""

from __future__ import annotations

import hashlib
import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from mroi.codecs.neural.bcm_model import Model, Sequence, model_of, needed, order
from mroi.codecs.neural.bcm_network import Network, bits, initial
from mroi.codecs.neural.bcm_shapes import Config, tensors
from mroi.codecs.neural.models import save
from mroi.codecs.neural.one_thread import one_thread
from mroi.errors import CodecError
from tests.codecs import bcm_reference as reference

DATA = Path(__file__).resolve().parents[1] / "data"
TINY = Config(8, 16, 3, 1, 2)


def test_names_and_shapes_are_those_of_the_checkpoints() -> None:
    """The digest is of `name shape` lines of the authors' network."""
    shapes = tensors(Config())
    lines = "".join(f"{name} {list(shape)}\n" for name, shape in sorted(shapes.items()))
    assert len(shapes) == 456
    assert sum(math.prod(shape) for shape in shapes.values()) == 12_594_725
    digest = "6b89e85a362658684d50f3505c5f844eb68238292e7d761a07ff18d228a70975"
    assert hashlib.sha256(lines.encode()).hexdigest() == digest


def formula(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Return weights that nobody has to store."""
    if name.endswith("theta_estimator.bias"):
        return torch.tensor([1.0, 0, 0, 0, 1, 0]).double()
    count = math.prod(shape)
    wave = np.sin(0.7 * np.arange(count) + zlib.crc32(name.encode()) % 997)
    if len(shape) > 1:
        wave = wave * 0.7 * math.sqrt(2 * shape[0] / count)
    else:
        wave = 1 + 0.1 * wave if name.endswith("weight") else 0.05 * wave
    return torch.from_numpy(wave.astype(np.float32).reshape(shape)).double()


def test_priors_are_those_of_the_authors_program() -> None:
    """Numbers of the authors' program, in double precision, weights by formula.

    Its slice of 48 x 48 is not known. With these weights, though, edges and biases make the
    numbers, which spread over 0.1 to 1; what is in the slice changes them by some millionths.
    """
    numbers = np.load(DATA / "bcm_numbers.npz")
    network = Network(Config(), {name: formula(name, s) for name, s in tensors(Config()).items()})
    rows, columns = torch.arange(48).double()[:, None], torch.arange(48).double()
    slices = (0.5 + 0.3 * torch.sin(rows / 7) * torch.cos(columns / 5))[None, None]
    with one_thread, torch.inference_mode():
        ahead, behind = (network.reference(slices, backward=backward) for backward in (False, True))
        for kind, references in (("intra", None), ("forward", (ahead, behind))):
            prior = network.prior(slices, references)
            found = prior[0, ::15, ::4, ::4].numpy()
            np.testing.assert_allclose(found, numbers[f"{kind}_ctx"], atol=1e-5)
            found = network.mixtures(prior, [])[0, :, ::4, ::4].numpy()
            np.testing.assert_allclose(found, numbers[f"{kind}_p0"], atol=5e-6)
            assert numbers[f"{kind}_ctx"].std() > 0.05 < numbers[f"{kind}_p0"].std()


def test_it_computes_what_a_second_program_does() -> None:
    """With an axis of symmetry that is no axis of the slice, and one that leaves it."""
    rng = np.random.default_rng(2)
    weights = {name: tensor.double() for name, tensor in initial(TINY, 4).items()}
    estimator = "i2cg.symmetry_based_intra_slice_ctx_generation.affine_transform.theta_estimator"
    weights[f"{estimator}.weight"] = torch.from_numpy(rng.normal(0, 0.3, (6, 12)))
    weights[f"{estimator}.bias"] = torch.tensor([0.9, 0.3, 0.2, -0.3, 0.8, -0.4]).double()
    for name, tensor in weights.items():
        if ".norm_" in name:
            tensor.add_(torch.from_numpy(rng.normal(0, 0.2, tensor.shape)))
    arrays = {name: tensor.numpy() for name, tensor in weights.items()}
    network, (base, before, after) = Network(TINY, weights), rng.random((3, 22, 14))
    quarters = list(rng.normal(0, 3, (3, 11, 7)))
    with one_thread, torch.inference_mode():
        slices = [torch.from_numpy(plane)[None, None] for plane in (base, before, after)]
        pair = (
            network.reference(slices[1], backward=False),
            network.reference(slices[2], backward=True),
        )
        for references, planes in ((None, []), (pair, [before, after])):
            prior = network.prior(slices[0], references)
            expected = reference.prior(base, planes, arrays, TINY)
            np.testing.assert_allclose(prior[0], expected, rtol=1e-9, atol=1e-12)
            for k in range(4):
                seen = [torch.from_numpy(quarter)[None, None] for quarter in quarters[:k]]
                found = network.mixtures(prior, seen)
                wanted = reference.mixtures(expected, quarters[:k], arrays)
                np.testing.assert_allclose(found[0], wanted, rtol=1e-9, atol=1e-12)


def test_convolutions_of_decoders_are_those_of_training() -> None:
    network = Network(TINY, {name: t.double() for name, t in initial(TINY, 3).items()})
    slices = torch.rand(2, 1, 14, 22, dtype=torch.float64)
    trained = network.prior(slices, None)
    with torch.inference_mode():
        np.testing.assert_allclose(network.prior(slices, None), trained, rtol=1e-12, atol=1e-14)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    weights = {name: tensor.numpy() for name, tensor in initial(TINY, 1).items()}
    header, kept = model_of(weights, TINY, 8.0, {})
    path = tmp_path_factory.mktemp("models") / "untrained.mroi-model"
    save(path, header, kept)
    from mroi.codecs.neural import models

    return Model(models.find(str(path)), TINY)


@pytest.mark.parametrize("count", [1, 2, 3], ids=["none", "before", "both"])
def test_bits_are_what_a_slice_takes(model: Model, count: int) -> None:
    """What training minimises is what the coder writes, up to its first state."""
    rng = np.random.default_rng(count)
    lossy = rng.integers(0, 256, (3, 30, 40)).astype(np.int32)
    voxels = np.clip(lossy + rng.integers(-4, 5, lossy.shape), 0, 255).astype(np.int32)
    coded = {1: [0], 2: [0, 1], 3: [0, 2, 1]}[count]
    sequence = Sequence(model, lossy[:count], 8)
    sizes = [len(sequence.encode(k, voxels[k]).words) for k in coded]
    *references, last = (torch.from_numpy(voxels[k : k + 1]) for k in coded)
    base = torch.from_numpy(lossy[coded[-1]][None])
    expected = float(bits(model.network, last, base, references, 255))
    assert 0 <= 8 * sizes[-1] - expected < 64 + 0.01 * expected


def test_training_makes_bits_fewer() -> None:
    """Gradients reach every tensor, and following them saves bits."""
    rng = np.random.default_rng(0)
    target = torch.from_numpy(rng.integers(90, 110, (2, 16, 16)))
    base = torch.full_like(target, 100)
    weights = {name: tensor.requires_grad_() for name, tensor in initial(TINY).items()}
    network = Network(TINY, weights)
    optimiser = torch.optim.Adam(weights.values(), 3e-3)
    costs = []
    with one_thread:
        for _ in range(9):
            optimiser.zero_grad()
            cost = bits(network, target, base, [base], 255) + bits(network, target, base, [], 255)
            cost.backward()
            costs.append(float(cost.detach()) / target.numel() / 2)
            optimiser.step()
    assert all(tensor.grad is not None for tensor in weights.values())
    assert costs[-1] < costs[0] - 0.5
    assert costs[-1] > math.log2(20) - 0.2  # no less than what is in them


def test_slices_refer_to_those_coded_before() -> None:
    """Groups of eight: the next one's first slice, then the middle, then halves."""
    assert [k for k, _ in order(10)] == [0, 8, 4, 2, 6, 1, 3, 5, 7, 9]
    assert dict(order(10)) == {
        0: (), 8: (0,), 4: (0, 8), 2: (0, 4), 6: (4, 8), 1: (0, 2), 3: (2, 4), 5: (4, 6), 7: (6, 8),
        9: (8,),
    }  # fmt: skip
    for count in range(1, 40):
        known: set[int] = set()
        for k, references in order(count):
            assert known >= set(references)
            known.add(k)
        assert known == set(range(count))
    assert needed(8, [3]) == [0, 4, 2, 3]
    assert needed(20, [17]) == [0, 8, 16, 18, 17]
    assert needed(5, range(5)) == [k for k, _ in order(5)]


def test_a_model_is_of_exactly_the_tensors_of_its_sizes() -> None:
    weights = {name: tensor.numpy() for name, tensor in initial(TINY).items()}
    lacks = {name: tensor for name, tensor in weights.items() if "theta" not in name}
    for found, step, message in (
        (lacks, 8.0, "theta_estimator.weight is not there"),
        ({**weights, "more": np.zeros(1)}, 8.0, "also has more"),
        ({**weights, "i2cg.ctx_fusion_head_wo_ref.0.bias": np.zeros(3)}, 8.0, r"\(3,\)"),
        (weights, 0.0, "step must be a number"),
        (weights, math.nan, "step must be a number"),
    ):
        with pytest.raises(CodecError, match=message):
            model_of(found, TINY, step, {})
    with pytest.raises(CodecError, match="multiple of heads"):
        Config(features=9)
    with pytest.raises(CodecError, match="sizes are"):
        Config.from_json({"features": 8})
