"""Would a small network make `ebb` smaller? Train one, and measure what mixing it in gives.

    python benchmarks/learned.py train DATA... -o model.safetensors [--steps N] [--device cuda]
    python benchmarks/learned.py measure FILES... --model model.safetensors

The network says for each coefficient of `ebb` how it is distributed, from what is decoded before
its band: the low part of the same level, the band's parents, and other bands of the level. All
coefficients of a band are predicted at once; what the same band says is left to the contexts of
`ebb`, with which the prediction is mixed (``benchmarks/mixing.py``).

`train` takes blocks of random places of NIfTI images (files, or folders of them), changes their
contrast, encodes each with `ebb` at a random step, and fits the network to its coefficients. Beside
the model it keeps ``.csv``, a curve, and ``.state``, from which the same command goes on; with the
same seed it gives the same blocks, however often it was interrupted. Name data whose licence lets a
model be given to others, if it is to be.

`measure` prints for blocks of slices around the middle, as in ``benchmarks/lossy.py``, and for each
PSNR the bytes of `ebb`, and by how much the network makes them fewer: the same coefficients, ideal
code lengths, in the same payload otherwise. Then what it costs. Needs torch and safetensors.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from lossy import Volume, curve, load, psnr
from mixing import PARAMETERS, code_lengths
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from mroi.codecs import ChunkSpec
from mroi.codecs.ebb import Ebb, coefficients, slab, wavelet
from mroi.codecs.ebb.bands import SECTIONS, Band, Plan, plan
from mroi.codecs.ebb.codec import _parse  # what a payload says, without decoding
from mroi.codecs.ebb.header import fraction_bits

ORIENTATIONS = (1, 2, 4, 3, 5, 6, 7)  # in the order of coding
PASSES = ((0,), (1,), (2,), (3, 4, 5), (6,))  # bands that are predicted at once
SEEN = (0, 1, 2, 3, 6)  # how many bands of the level each pass has seen
BLOCK = 32, 96, 96  # of training
STEPS = 1.7, 120.0  # of the quantiser, in 1/255 of the range of a volume
SETTINGS = (110, 60, 32, 17, 9, 5.5)
LEVELS = (30, 35, 40, 45)
FLOOR = 2.0**-18  # of a probability, in training


@dataclass(frozen=True, slots=True)
class Coded:
    """What a payload of `ebb` says of a slab.

    Attributes
    ----------
    how : Plan
        Its bands.
    unit : float
        The step, in symbols.
    steps : (slices, rows, columns) int32
        The coefficients.
    lows : list of (slices, rows, columns) float32
        The low part of each level as decoded, in symbols.
    size : int
        Bytes of the sections of coefficients.
    """

    how: Plan
    unit: float
    steps: NDArray[np.int32]
    lows: list[NDArray[np.float32]]
    size: int


def coded(payload: bytes, spec: ChunkSpec) -> Coded | None:
    """Return what a payload of one slab says, None if it has no coefficients."""
    if payload[0] == 0:
        return None
    header, sections, shape = _parse(memoryview(payload), spec)
    if header.scale.top == 0:
        return None
    how = plan(shape[1:], header.deep, header.flat)
    found = slab._decode_sections(sections[:SECTIONS], shape, how, header)  # noqa: SLF001
    assert found is not None
    one = 1 << fraction_bits(header.scale.top)
    exact, lows = found[0].copy(), []
    shifts, whole = np.array(header.shifts), (0, len(how.bands))
    coefficients.restore(exact, how.table, whole, header.step, shifts)
    for level in range(len(how.shapes) - 1, 0, -1):
        deep, high, wide = how.shapes[level]
        lows.append(exact[:deep, :high, :wide].astype(np.float32) / one)
        wavelet.synthesise(exact, _only(how, level), header.wavelet, level - 1)
    sizes = sum(map(len, sections[:SECTIONS]))
    return Coded(how, header.step / one, found[0], [exact, *reversed(lows)], sizes)


def _only(how: Plan, level: int) -> Plan:
    """Return a plan that ends with a level."""
    return Plan(how.shapes[: level + 1], how.bands, how.table, how.size, how.sums)


def place(band: Band) -> tuple[slice, ...]:
    """Return where a band lies in the array of all."""
    return tuple(slice(a, a + n) for a, n in zip(band.origin, band.shape, strict=True))


def bands_of(how: Plan, level: int) -> dict[int, Band]:
    """Return the bands of a level by their number in the order of coding."""
    found = [band for band in how.bands if band.level == level and band.orientation]
    return {ORIENTATIONS.index(band.orientation): band for band in found}


def grid(of: Coded, level: int) -> NDArray[np.float32]:
    """Return the bands of a level side by side, (7, slices, rows, columns), 0 where none is."""
    values = np.zeros((len(ORIENTATIONS), *of.how.shapes[level]), np.float32)
    for number, band in bands_of(of.how, level).items():
        z, y, x = band.shape
        values[number, :z, :y, :x] = of.steps[place(band)]
    return values


def levels_of(how: Plan) -> Iterator[int]:
    """Yield the levels that the network knows: those that split all axes."""
    for level in range(len(how.shapes) - 1, 0, -1):
        if len(bands_of(how, level)) == len(ORIENTATIONS):
            yield level


def features(of: Coded, level: int) -> NDArray[np.float32]:
    """Return what is known before a level is decoded, (19, slices, rows, columns)."""
    low = of.lows[level] / np.float32(of.unit)
    edged = np.pad(low, 1, mode="edge")
    mean = low - _box(edged)
    slopes = [
        edged[2:, 1:-1, 1:-1] - edged[:-2, 1:-1, 1:-1],
        edged[1:-1, 2:, 1:-1] - edged[1:-1, :-2, 1:-1],
        edged[1:-1, 1:-1, 2:] - edged[1:-1, 1:-1, :-2],
    ]
    coarsest = level + 1 == len(of.how.shapes)
    parents = np.zeros((7, *low.shape), np.float32)
    if not coarsest:
        parents = np.log1p(np.abs(grid(of, level + 1)))
        for axis, size in enumerate(low.shape, 1):
            halved = parents.shape[axis] < size
            parents = parents.take(np.arange(size) >> halved, axis)
    bright = low * of.unit / (255 * 2 ** (1.5 * level))
    flags = (math.log(of.unit) / 3, level == 1, level == 2, level > 2, coarsest)
    planes = [
        np.arcsinh(mean), np.clip(mean / 8, -4, 4), *map(np.arcsinh, slopes), *parents,
        bright, np.arcsinh(low) / 4, *(np.full(low.shape, flag) for flag in flags),
    ]  # fmt: skip
    return np.stack(planes).astype(np.float32)


def _box(edged: NDArray[np.float32]) -> NDArray[np.float32]:
    for axis in range(3):
        n = edged.shape[axis] - 2
        edged = sum(edged.take(range(k, k + n), axis) for k in range(3)) / 3
    return edged


def _conv(channels: int, to: int) -> nn.Conv3d:
    return nn.Conv3d(channels, to, 3, padding=1)


class Network(nn.Module):
    """Mixtures of all bands of a level: a trunk, then what each pass has seen of the level.

    Parameters
    ----------
    width : int
        Channels of the trunk.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.trunk = nn.ModuleList([_conv(19, width), _conv(width, width), _conv(width, width)])
        self.seen = nn.ModuleList([_conv(2 * n, width) if n else nn.Identity() for n in SEEN])
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Conv3d(width * (2 if n else 1), 2 * width, 1), nn.LeakyReLU(0.1),
                nn.Conv3d(2 * width, width, 1), nn.LeakyReLU(0.1),
                nn.Conv3d(width, PARAMETERS * len(bands), 1),
            )
            for n, bands in zip(SEEN, PASSES, strict=True)
        )  # fmt: skip
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def forward(self, known: Tensor, bands: Tensor) -> Tensor:
        """Return (7, slices, rows, columns, PARAMETERS); `bands` are (7, slices, rows, columns).

        No coefficient has an influence on its own band, or on one before.
        """
        x = known[None].contiguous(memory_format=torch.channels_last_3d)
        x = functional.leaky_relu(self.trunk[0](x), 0.1)
        y = functional.leaky_relu(self.trunk[1](x), 0.1)
        x = functional.leaky_relu(self.trunk[2](y), 0.1) + y
        parts = []
        for n, seen, head in zip(SEEN, self.seen, self.heads, strict=True):
            both = x
            if n:
                told = torch.cat([torch.asinh(bands[:n]), torch.log1p(bands[:n].abs()) / 2])[None]
                told = told.contiguous(memory_format=torch.channels_last_3d)
                both = torch.cat([x, functional.leaky_relu(seen(told), 0.1)], 1)
            out = head(both)[0]
            parts.append(out.reshape(PARAMETERS, -1, *out.shape[1:]).movedim(0, -1))
        return _mixture(torch.cat(parts))

    def multiplications(self) -> float:
        """Return the multiplications for each voxel: a level has an eighth of those before it."""
        weights = sum(part.weight.numel() for part in self.modules() if isinstance(part, nn.Conv3d))
        return weights / 7


def _mixture(raw: Tensor) -> Tensor:
    """Return middles, scales and share from what the network says."""
    first, other, scale, wider, share = raw.float().unbind(-1)
    scale = torch.exp(scale.clamp(-4, 6))
    second = scale * torch.exp(functional.softplus(wider) + 0.2)
    middles = first, first + other * scale
    return torch.stack([middles[0], scale, middles[1], second, torch.sigmoid(share)], -1)


def bits(mixture: Tensor, values: Tensor) -> Tensor:
    """Return the bits of each value."""
    first, scale, other, second, share = mixture.unbind(-1)

    def chance(middle: Tensor, scale: Tensor) -> Tensor:
        off = (values - middle).abs()
        return torch.sigmoid((0.5 - off) / scale) - torch.sigmoid((-0.5 - off) / scale)

    both = share * chance(first, scale) + (1 - share) * chance(other, second)
    return -torch.log2(both.clamp(FLOOR, 1))


def predict(
    network: Network, of: Coded, device: str
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return what the network says of all coefficients, and of which bands: see `code_lengths`."""
    said = np.ones((*of.steps.shape, PARAMETERS), np.float32)
    known = np.zeros(len(of.how.bands), np.bool_)
    with torch.no_grad():
        for level in levels_of(of.how):
            tensors = (
                torch.from_numpy(a).to(device) for a in (features(of, level), grid(of, level))
            )
            found = network(*tensors).cpu().numpy()
            for number, band in bands_of(of.how, level).items():
                z, y, x = band.shape
                said[place(band)] = found[number, :z, :y, :x]
                known[of.how.bands.index(band)] = True
    return said, known


# Training


def images(sources: Sequence[Path]) -> list[Volume]:
    """Return the volumes of files and folders, in 8 bits."""
    files: list[Path] = []
    for source in sources:
        files += sorted(source.rglob("*.nii*")) if source.is_dir() else [source]
    return [load(file, 0) for file in files]


def draw(volumes: Sequence[Volume], random: np.random.Generator) -> Volume:
    """Return a block of a random place, with another contrast."""
    weights = np.array([volume.size**0.4 for volume in volumes])
    volume = volumes[random.choice(len(volumes), p=weights / weights.sum())]
    starts = (
        int(random.integers(0, max(0, a - b) + 1)) for a, b in zip(volume.shape, BLOCK, strict=True)
    )
    block = volume[tuple(slice(a, a + n) for a, n in zip(starts, BLOCK, strict=True))]
    block = np.flip(block, [axis for axis in range(3) if random.random() < 0.5]).astype(np.float64)
    if random.random() < 0.5:
        block = 255 * (block / 255) ** math.exp(random.uniform(-0.4, 0.4))
    if random.random() < 0.5:
        block *= random.uniform(0.5, 1)
    if random.random() < 0.15:
        block += random.normal(0, random.uniform(0, 5), block.shape)
    return np.ascontiguousarray(np.rint(block).clip(0, 255).astype(np.uint8))


def example(volumes: Sequence[Volume], seed: int, number: int) -> Coded:
    """Return the example of a number: the same for the same seed."""
    random = np.random.default_rng([seed, number])
    for _ in range(1000):
        block = draw(volumes, random)
        step = math.exp(random.uniform(*map(math.log, STEPS)))
        spec = ChunkSpec(block.shape, block.dtype, 8)
        found = coded(Ebb(step).encode(block, spec), spec)
        if found is not None and any(levels_of(found.how)) and np.any(found.steps):
            return found
    raise SystemExit("the volumes have no blocks that are split along all axes")


Tensors = list[tuple[Tensor, Tensor, Tensor]]


class Examples(Dataset[Tensors]):
    """Examples by number: of each level what is known, the bands, and where there are any."""

    def __init__(self, volumes: Sequence[Volume], seed: int) -> None:
        self.volumes = volumes
        self.seed = seed

    def __getitem__(self, number: int) -> Tensors:
        of = example(self.volumes, self.seed, number)
        tensors = []
        for level in levels_of(of.how):
            values = grid(of, level)
            inside = np.zeros(values.shape, np.float32)
            for k, band in bands_of(of.how, level).items():
                z, y, x = band.shape
                inside[k, :z, :y, :x] = 1
            tensors.append(tuple(map(torch.from_numpy, (features(of, level), values, inside))))
        return tensors


def loss_of(network: Network, levels: Tensors, device: str) -> tuple[Tensor, float]:
    """Return what is made less, about the logarithm of the bits, and the bits a coefficient."""
    total = torch.zeros((), device=device)
    count = 0.0
    for level in levels:
        known, values, inside = (tensor.to(device) for tensor in level)
        with torch.autocast(device, torch.bfloat16):
            found = network(known, values)
        total = total + (bits(found, values) * inside).sum()
        count += float(level[2].sum())
    rate = total / count
    return torch.log(rate + 0.01), float(rate.detach())


class Fit:
    """A network that is being fitted, and what is kept of it.

    Parameters
    ----------
    arguments : argparse.Namespace
        Of the command `train`.
    volumes : sequence of Volume
        Where examples are from.
    """

    def __init__(self, arguments: argparse.Namespace, volumes: Sequence[Volume]) -> None:
        torch.manual_seed(arguments.seed)
        self.out: Path = arguments.out
        self.state = self.out.with_suffix(".state")
        self.settings = [arguments.seed, arguments.steps, arguments.batch, arguments.width]
        self.settings += [n for volume in volumes for n in volume.shape]
        self.network = Network(arguments.width).to(arguments.device)
        self.optimiser = torch.optim.Adam(self.network.parameters())
        self.step = 0
        self.lines: list[list[float]] = []
        if self.state.exists():
            self._go_on(torch.load(self.state, arguments.device, weights_only=True))
        self.began = time.process_time() - (self.lines[-1][1] if self.lines else 0.0)

    def _go_on(self, kept: dict[str, Any]) -> None:
        if kept["settings"] != self.settings:
            raise SystemExit(f"{self.state} is of other settings or data: name another model")
        self.network.load_state_dict(kept["network"])
        self.optimiser.load_state_dict(kept["optimiser"])
        self.step, self.lines = kept["step"], kept["lines"]

    def keep(self, losses: Sequence[float], rates: Sequence[float]) -> None:
        """Write the model, its curve and the state, none of them by halves."""
        means = (round(fmean(values), 4) for values in (losses, rates))
        self.lines.append([self.step, round(time.process_time() - self.began, 1), *means])
        print(*self.lines[-1], flush=True)
        new = self.state.with_suffix(".new")
        weights = self.network.state_dict()
        save_file({name: weight.contiguous() for name, weight in weights.items()}, new)
        new.replace(self.out)
        with new.open("w", newline="", encoding="utf-8") as file:
            head = ["step", "cpu seconds", "loss", "bits a coefficient"]
            csv.writer(file).writerows([head, *self.lines])
        new.replace(self.out.with_suffix(".csv"))
        kept = {"settings": self.settings, "step": self.step, "lines": self.lines}
        kept |= {"network": weights, "optimiser": self.optimiser.state_dict()}
        torch.save(kept, new)
        new.replace(self.state)


def train(arguments: argparse.Namespace) -> None:
    """Fit a network; go on where the same command was interrupted."""
    volumes = images(arguments.data)
    fit = Fit(arguments, volumes)
    numbers = range(fit.step * arguments.batch, arguments.steps * arguments.batch)
    examples = DataLoader(
        Examples(volumes, arguments.seed), None, sampler=numbers, num_workers=arguments.workers
    )
    drawn = iter(examples)
    losses: list[float] = []
    rates: list[float] = []
    while fit.step < arguments.steps:
        _set_rate(fit.optimiser, fit.step, arguments.steps)
        fit.optimiser.zero_grad()
        for _ in range(arguments.batch):
            loss, rate = loss_of(fit.network, next(drawn), arguments.device)
            (loss / arguments.batch).backward()  # type: ignore[no-untyped-call]
            losses.append(float(loss.detach()))
            rates.append(rate)
        nn.utils.clip_grad_norm_(fit.network.parameters(), 2.0)
        fit.optimiser.step()
        fit.step += 1
        if fit.step % arguments.every == 0 or fit.step == arguments.steps:
            fit.keep(losses, rates)
            losses, rates = [], []


def _set_rate(optimiser: torch.optim.Optimizer, step: int, steps: int) -> None:
    warm = min(1.0, (step + 1) / (0.05 * steps))
    for group in optimiser.param_groups:
        group["lr"] = 2e-3 * warm * (0.5 + 0.5 * math.cos(math.pi * step / steps)) + 1e-5


# Measuring


def load_network(path: Path, device: str) -> Network:
    """Return a network that `train` has written."""
    weights = load_file(path)
    network = Network(len(weights["trunk.0.bias"]))
    network.load_state_dict(weights)
    return network.to(device).eval()


@dataclass(slots=True)
class Cost:
    """CPU seconds, and voxels, in all."""

    network: float = 0.0
    decoding: float = 0.0
    voxels: int = 0


def measured(
    network: Network, volume: Volume, step: float, device: str, cost: Cost
) -> tuple[float, list[float]]:
    """Return the PSNR of a step, and bytes: of `ebb`, mixed, and the network's alone."""
    codec, spec = Ebb(step), ChunkSpec(volume.shape, volume.dtype, 8)
    payload = codec.encode(volume, spec)
    began = time.process_time()
    decoded = codec.decode(payload, spec)
    cost.decoding += time.process_time() - began
    of = coded(payload, spec)
    assert of is not None
    began = time.process_time()
    said, known = predict(network, of, device)
    cost.network += time.process_time() - began
    cost.voxels += volume.size
    plain, mixed = (code_lengths(of.steps, of.how, *more) / 8 for more in ((), (said, known)))
    lowest = 18 + 2 * math.prod(of.how.bands[0].shape)  # bytes at most, and those to close sections
    if not 0.98 * (of.size - lowest) <= plain.sum() <= 1.02 * of.size:
        raise SystemExit(f"mixing.py counts {plain.sum():.0f} bytes, not {of.size}: see there")
    alone = 0.0
    for band in (band for band, is_known in zip(of.how.bands, known, strict=True) if is_known):
        values = torch.from_numpy(of.steps[place(band)])
        alone += float(bits(torch.from_numpy(said[place(band)]), values).double().sum()) / 8
    bare = len(payload) - plain.sum()
    sizes = [len(payload), bare + mixed.sum(), bare + plain[~known].sum() + alone]
    return psnr(volume, decoded.astype(np.float64)), sizes


def measure(arguments: argparse.Namespace) -> None:
    """Print what a network gives, and what it costs."""
    network, cost = load_network(arguments.model, arguments.device), Cost()
    print("| volume | dB | bytes of `ebb` | network mixed in | network alone |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for file in arguments.files:
        volume = load(file, 32)
        points = [measured(network, volume, s, arguments.device, cost) for s in SETTINGS]
        curves = [curve((sizes[k], db) for db, sizes in points) for k in range(3)]
        for db in LEVELS:
            ours, *others = (at(db) for at in curves)
            if ours is None:
                continue
            cells = [f"{100 * (other / ours - 1):+.1f} %" if other else "" for other in others]
            name = file.name.partition(".")[0]
            print(f"| {name} | {db} | {ours:.0f} | {' | '.join(cells)} |", flush=True)
    million = cost.voxels / 1e6
    print(f"\n{sum(p.numel() for p in network.parameters())} parameters, ", end="")
    print(f"{network.multiplications() / 1000:.1f} thousand multiplications a voxel; ", end="")
    print(f"CPU seconds a million voxels: {cost.network / million:.2f} for the network, ", end="")
    print(f"{cost.decoding / million:.2f} for decoding `ebb`")


def main() -> None:
    """Train or measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(required=True)
    new = commands.add_parser("train", help="fit a network to coefficients of ebb")
    new.add_argument("data", type=Path, nargs="+", help="NIfTI images, or folders of them")
    new.add_argument("-o", "--out", type=Path, required=True)
    new.add_argument("--steps", type=int, default=2000)
    new.add_argument("--batch", type=int, default=2, help="blocks of a step")
    new.add_argument("--width", type=int, default=32, help="channels of the network")
    new.add_argument("--workers", type=int, default=0, help="processes that make examples")
    new.add_argument("--seed", type=int, default=0)
    new.add_argument("--every", type=int, default=50, help="steps from one state kept to the next")
    new.set_defaults(run=train)
    old = commands.add_parser("measure", help="print a table")
    old.add_argument("files", type=Path, nargs="+")
    old.add_argument("--model", type=Path, required=True)
    old.set_defaults(run=measure)
    for command in (new, old):
        command.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
