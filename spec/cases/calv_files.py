"""Files with chunks of `calv`, which a reader should decode, but need not (`REG-1`)."""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from cases.overview import overview
from cases.sample import Sample, Slot, from_bytes, sha256
from numpy.typing import NDArray
from reference import calv

# By the first digits of the SHA-256 of the array: payloads as the library encoded them once.
RECORDED = {
    "162edba6": (
        "01a0000000000000011910010102020202010302020202020a020202020103020201030202010701030103a4"
        "0000005800000006000d8b72d8a74da84a98bc90f3b1efd702bfcbf5b1e9b4cd55d253175e42a8b467d4411e"
        "2b8d9124b606f5e3acf967c3d50eb3e95b9b9f29670e5e34bd29fe48476ef74ad8772940b443f31dd03f2b85"
        "06c23bcd0700006f51129e2d004ed3c0fd49f635ed83090539a462984c3749c1201e91d222eee57500501b6c"
        "561d4a72a30800514e2318e0b02f97e701cc6c7f6c7fc060172b017e6de108c2beddd9"
    ),
    "9a6111d8": (
        "02a0000000000000011f13010502020202010302020103010702020206020202020202010701030202020201"
        "03020202027e000000bd84b95b25278aebb76f57df494a6f8887c60b7cea30e49eb87e291783b8cc75edbfcd"
        "af0c8af133a183bf405189c4cbfab970f924376edeaf1d93a526063e0b24920dc3d406cf4e75199a8a9b3887"
        "e6c8a8c7da6a36621f5fc9b44a3d712e7902248f2478e5c29647f24a40d6cd29e8f93b4ae04361bdbfc0ded3"
        "254369"
    ),
    "6c1f0dcc": (
        "03a0000000000000011c13010101030202010301030202010b02020202010302020202020201070202010301"
        "030202010384000000bd84b95bd6285684892a7cbb75fed039190660f50aabda829b8b183f527c8564ad4579"
        "b6ea6a6e91c1488cd0fa99e3b66cc3f7835993bd7105ffcba08d6e847c33954febab265c7ad54bb719343e6b"
        "133bf0a95a622091032ade2dd76dde66be706348528760913b913dd91b29bc1c52597e8bcc3f479e4f58e05d"
        "86c7d151da413da2da"
    ),
    "d48a604f": (
        "04a000000000000001120c0101020201030103020202020202010701030206020201033a000000f16d21e0c1"
        "518f0d2850b76d79ab554ee3b680a91f507ac09241022cd803e62b62740ab33e0799522ee299ac93052b2e37"
        "ea325920125cea995a"
    ),
    "8632d694": (
        "0920010000000000012717010101030103020202020202020201030202020201030202020202020202020202"
        "02020201030202020202020103f40000008a000000050081c712dc137f474dd7ceec492a2319b290081a37c6"
        "642d8d0b16ed433e2db458d0f9c8bcaefda88a5c5f4c1ff788bef92491d19fd80b2cdbb8aee9d52f1c2bdc53"
        "64a691df33d4e9c4cea037428d00f1577417295136b09ac89cb905d0b6694d3ade3174b845a775f72461adb3"
        "b936c5ec91cae6e99652f45e06c6ab7e8029d1639620fc28d200000b00f0f95ecf854f9d34c5db50efcdaf75"
        "19187c240146ce813e6caee369ea2b06deb7bd6024eb03ed7bf109ff87b510ff925f7dc0b6bfe0ed1e90e637"
        "00c30bb066886b1b0092da75017140ba41a44194824363b24ab9dc4f0782bc2cb218c7575cc5d56d31"
    ),
    "75908f0d": (
        "01600300000000000117010ce801980000005800000006000517f21e47478a3aae20f49b9a122a74a6d4c26a"
        "f0a79a9fcf0399e9037bb9e361deaf38bceb77c03af10a3f69707a3da9de68b88074e5c0634da3d9347abbfd"
        "303811a5c43a11c1564e3ac3d7f7d3a61f61eba6000001009a7e01009a7e0e00cd0762a68a004dacf63e207f"
        "3a00a8fd78184702290d0b00111e5e729502dafd4200f5a1503f390ed5008a08735802036437920000005600"
        "000004000598d5653864f0410c2ba294134853e64609009b96f81599081a254df34e3dbda1b2bf42a8e9e924"
        "edcc2347e42f9bd89f926a2ae50eb33a6b294018696e251c68eba3b8b72732e6d12c13f588ed6cddfee60000"
        "010061b1010061b15709d5f80c000f2bf91a340007bf0c6b0500935d99a4bc005f9e9c424dd8950012190e00"
        "9cf6521a0800e8c60400cf52a4000000600000000200203476e25fc70dd3619f7ba17d409fd4b0562a2e8ee7"
        "9ce17448eb14ec866fe718f753358cba775dbb37c04d83544bec45ade90cda5aacb0c8a4d91f6ad9a0648a06"
        "a5d57eb396b6d48f9782358220e7d11768451a8a7b5b50af49830000610af2afb9ce13de020084290600f3fc"
        "9990ee3d01b59aaa410114981c2d1300d5188e56681152ad45b15957d93e3400a52bc56cdc63c4004233afbc"
        "7675c413"
    ),
    "ab9ba1ec": (
        "0170000000000000011b13010501030202010301030202020601030107010301030202020602020103010301"
        "03020202028a000000520000000600018a212e1c3c5df9f7c426cddf37be2067ee11ffb867cfdf7c2dceba79"
        "f4422cd7330490a03a8559136646ea79ded11e48f22d1c0f8c064674743dfe51cfddcd7582720393447af1b9"
        "1a3f2a682e00000100483866ee0d95f224abf1ccde1a5acb30a7089996ea0ae27eeb0b666bed02258242e115"
        "00a87e69aa3214d810907ed6369034"
    ),
    "043ebf5c": (
        "01a4000000000000011510010101030202020201030202020a01030103010302020103010301070103010374"
        "0000003c0000000200ce61570c133d7de4b1594071dd7a36406e39451e1dc815fec2e5b4b8b16c76eefd1f8a"
        "a33820223fc58dcdd8358b97ef20894c8d53a1e4610000c90094b6903228efa160af5601342ffdce440dd22b"
        "cb79db586ff0a71033a845acd25aa20e9bf5cbdece52f36e96b4db067600c2"
    ),
    "a6cbdb35": (
        "01a400000000000001191001050202010301030103020202060103010702020202020a02020206010302026e"
        "0000003600000002008eb3c70d8d633bcfa2454f3511b641e1400590f5848b3f11949922992f8e113292992d"
        "71cdb3d9a6fd787e846a3677e2841e000034d7fe506dffd38f13047c8a885871a03f0721c78c01f8925885b0"
        "bdcb5e0775eaae6fada686902a68cc09bb8f99410e145c13b1"
    ),
    "4fa6e407": (
        "013c0000000000000109050105020e021e020e020e6e0000004c00000006008957535cdeeb9f49b8e33cd9e9"
        "bc4a95d32d54751871b68fe3870f37c4b885df17e78dc6379ef97d99fee37c82dd5c8f9ef036aac20c96ed0c"
        "91d5053e1107cc40d306b7241ca866000007007b47ed4efb1192a0c4392700acf3aabd7d46badf9d1e020069"
        "c644c9"
    ),
}

LOSSY = bytes.fromhex(
    "1268010000000000015a0002f2000000bd84b95b4f25f15813064ab4dec21682ead01e8668f86c807ede963d"
    "c565b59777de027c7c01943f54cb898d4d839abf87b9742bce34fbc5aa63d16f38b41b0ef29785a0c6d57c67"
    "9b6ffe9414e2c388223a4081832cf888890f7e18f9fbbbf7947eb4c016ee361181e49a930ff7aa66491963f9"
    "9453a75d5827c2d63780358d27cfe88884d442defa93374558ed60c89a0b874caf11b75266f856246482e5b9"
    "f5a630cf123645c5f36881e3a9cb569442ba1edf6a6b63e53a1493f593bfd2fe5ed63264e48965219bfd3419"
    "c6871cab37697111cafe85fd74ef17a89160d8fd3b09f21bbb6853ebc5b74e1f26b1bd72c0f4"
)
"""A lossy payload of kind 2, near 2: of int16, 4 slices of 9 rows and 10 columns."""


def encode(data: bytes, _size: int) -> bytes:
    """Return the payload of an array."""
    return bytes.fromhex(RECORDED[sha256(data)[:8]])


CALV, BACKGROUND, OVERVIEW = (Slot("calv", 9, encode, role=role) for role in range(3))
UNCODED = Slot("calv", 9, lambda data, _size: b"\0" + data)


def hill(shape: Sequence[int]) -> list[int]:
    """Return what an image might look like: it rises out of zeros, with a little noise."""
    noise = hashlib.shake_128(f"{tuple(shape)}".encode()).digest(math.prod(shape))
    places = np.indices(shape).reshape(len(shape), -1, order="F").T.tolist()
    middle = [extent // 2 for extent in shape]
    heights = (
        90 - sum((at - m) ** 2 for at, m in zip(place, middle, strict=True)) * 4 for place in places
    )
    return [h + (bit < 32) if h > 0 else 0 for h, bit in zip(heights, noise, strict=True)]


def volume(shape: Sequence[int], datatype: int, code: str) -> NDArray[Any]:
    """Return a hill in elements of a type of `struct`."""
    data = b"".join(struct.pack(f"<{code}", value) for value in hill(shape))
    return from_bytes(data, shape, datatype)


def valid() -> Iterator[tuple[str, str, Sample]]:
    """Yield each kind of payload, a series, colours, floats and a list of background voxels."""
    kinds = volume((10, 8, 10), 4, "h")
    yield (
        "calv-kinds",
        "calv: chunks of the kinds 0, 1, 2, 3, 4",
        Sample(kinds, 4, chunk_shape=(10, 8, 2), codecs=(CALV, UNCODED), slots={0: 1}),
    )
    shape = (8, 6, 2, 3)
    series = Sample(volume(shape, 4, "h"), 4, chunk_shape=shape, codecs=(CALV,))
    yield "calv-series", "calv: two slices of three volumes, coded as a series", series
    grey = [height // 8 for height in hill((12, 12, 2))]
    colours = from_bytes(bytes(n for v in grey for n in (v, v // 2, 255 - v)), (12, 12, 2), 128)
    yield (
        "calv-rgb",
        "calv: three components, a section for each",
        Sample(colours, 128, chunk_shape=(12, 12, 2), codecs=(CALV,)),
    )
    floats = Sample(
        volume((11, 10, 4), 16, "f"), 16, [(1, 9), (1, 8), (1, 3)], (8, 7, 2), background=2,
        codecs=(CALV, BACKGROUND, OVERVIEW),
    )  # fmt: skip
    floats.preface = [overview(floats, (2, 2, 2), 0)]
    yield "calv-everywhere", "calv: float32, the ROI, the background and an overview", floats
    values = calv.decode(LOSSY, (4, 9, 10), "i", 2, near=2)
    within = Slot("calv", 9, lambda *_: LOSSY, {"near": 2}, fidelity=2)
    near = from_bytes(struct.pack("<360h", *values), (10, 9, 4), 4)
    yield (
        "calv-near",
        "calv: a lossy payload, no voxel off by more than 2",
        Sample(near, 4, chunk_shape=(10, 9, 4), codecs=(within,)),
    )
