"""Tensors that are no arrays yet are refused with what makes arrays of them."""

from __future__ import annotations

import io

import numpy as np
import pytest

import mroi


class Tensor:
    """As PyTorch has it: becomes an array if it can, and says so in its own words if not."""

    def __init__(self, values, *, dtype="torch.float32", device="cpu", requires_grad=False):
        self.values, self.dtype, self.device = values, dtype, device
        self.requires_grad = requires_grad
        self.ndim = values.ndim

    def __array__(self, dtype=None, copy=None):
        if self.requires_grad:
            raise RuntimeError(
                "Can't call numpy() on Tensor that requires grad. "
                "Use tensor.detach().numpy() instead."
            )
        if self.device != "cpu":
            raise TypeError("can't convert cuda:0 device type tensor to numpy.")
        if self.dtype == "torch.bfloat16":
            raise TypeError("Got unsupported ScalarType BFloat16")
        return np.asarray(self.values, dtype)


VALUES = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
CASES = [
    ({"requires_grad": True}, r"requires grad.*give tensor\.detach\(\)"),
    ({"dtype": "torch.bfloat16"}, r"BFloat16; NumPy has no bfloat16: give tensor\.float\(\)"),
    ({"device": "cuda:0"}, r"cuda:0.*give tensor\.cpu\(\)"),
]


def test_a_tensor_that_is_an_array_is_packed(tmp_path):
    mroi.pack(Tensor(VALUES), tmp_path / "x.mroi", affine=Tensor(np.diag([1.0, 2, 3, 1])))
    with mroi.open(tmp_path / "x.mroi") as volume:
        assert np.array_equal(volume, VALUES)
        assert volume.spacing == (1, 2, 3)


@pytest.mark.parametrize(("options", "said"), CASES)
def test_one_that_is_none_is_refused_with_what_helps(tmp_path, options, said):
    tensor = Tensor(VALUES, **options)
    with pytest.raises(mroi.SourceError, match=said) as caught:
        mroi.pack(tensor, tmp_path / "x.mroi")
    assert "Tensor cannot become an array" in str(caught.value)
    with pytest.raises(mroi.SourceError, match=said):
        mroi.pack(VALUES, tmp_path / "x.mroi", affine=Tensor(np.eye(4), **options))
    writer = mroi.create(io.BytesIO(), VALUES.shape, np.float32)
    with pytest.raises(mroi.SourceError, match=said):
        writer.write(Tensor(VALUES[:, :, 0], **options))
    writer.abort()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("given", [[[1, 2], [3]], [1, "a"], object(), {1: 2}, "torch.bfloat16"])
def test_other_things_that_are_no_arrays(tmp_path, given):
    with pytest.raises((mroi.SourceError, FileNotFoundError)):
        mroi.pack(given, tmp_path / "x.mroi")
    with pytest.raises(mroi.SourceError):
        mroi.pack(VALUES, tmp_path / "x.mroi", affine=given)
    with pytest.raises(mroi.SourceError, match="type"):
        mroi.create(io.BytesIO(), (2, 3), given)


def test_torch_itself(tmp_path):
    torch = pytest.importorskip("torch")
    tensor = torch.arange(24.0).reshape(2, 3, 4)
    mroi.pack(tensor, tmp_path / "x.mroi")
    assert np.array_equal(mroi.open(tmp_path / "x.mroi"), tensor.numpy())
    for bad, said in ((tensor.requires_grad_(), "detach"), (tensor.detach().bfloat16(), "float")):
        with pytest.raises(mroi.SourceError, match=said):
            mroi.pack(bad, tmp_path / "y.mroi")
    with pytest.raises(mroi.SourceError, match="not a NumPy dtype"):
        mroi.create(io.BytesIO(), (2, 3), torch.bfloat16)
