"""Deciding is a function: of what is known and what is wished, without a file or a source."""

from __future__ import annotations

import math
import re
from dataclasses import fields, replace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mroi import Box, PackOptions, SourceError, Target, UsageError
from mroi.codecs import Fidelity, Pipeline, Values, parse
from mroi.codecs.calv import Calv
from mroi.format.datatypes import DATATYPES, Datatype
from mroi.format.geom import Background, VolumeGeometry, build_geom
from mroi.packing.options import AUTO_MODES, LOSSY_MODES, RoiMethod
from mroi.packing.plan import PackPlan, decide
from mroi.packing.quality import _next_rung
from mroi.packing.survey import Attempt, Sample, Survey
from mroi.volume.chunks import Loss
from mroi.volume.layout import PURPOSES
from mroi.volume.source import array_geometry
from tests.extras import needs

NAMED = {kind.name: kind for kind in DATATYPES.values()}
ORDERED = [kind for kind in DATATYPES.values() if kind.is_ordered]
SHAPE = (12, 10, 8)


def volume_of(shape: tuple[int, ...] = SHAPE, kind: Datatype = NAMED["int16"]) -> VolumeGeometry:
    return array_geometry(shape, kind, np.eye(4))


def survey_of(volume: VolumeGeometry, **known: Any) -> Survey:
    return Survey(**{"volume": volume, "box": Box.whole(volume.shape), **known})


@st.composite
def boxes(draw: st.DrawFn, shape: tuple[int, ...]) -> Box:
    start = [draw(st.integers(0, n - 1)) for n in shape[:3]]
    stop = [draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=False)]
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))


@st.composite
def surveys(draw: st.DrawFn, slice_axis: int) -> Survey:
    """What a look at a volume may have found, or what is known before its voxels come."""
    shape = draw(st.lists(st.integers(1, 12), min_size=1, max_size=5).map(tuple))
    kind = draw(st.sampled_from(list(DATATYPES.values())))
    volume = volume_of(shape, kind)
    box = draw(st.one_of(st.just(Box.whole(volume.shape)), boxes(volume.shape)))
    fill = draw(st.one_of(st.none(), st.binary(min_size=kind.itemsize, max_size=kind.itemsize)))
    if not draw(st.booleans()):
        return Survey(volume=volume, box=box, fill=fill, is_seen=False)
    rows, columns = (n for a, n in list(enumerate(volume.shape[:3]))[::-1] if a != slice_axis)
    series = volume.shape[3] if len(volume.shape) > 3 else 1
    extent = volume.shape[slice_axis]
    start = draw(st.integers(0, extent - 1))
    planes = (draw(st.integers(1, series)), draw(st.integers(1, extent - start)), rows, columns)
    stored = draw(arrays("u1", (*planes, kind.itemsize), elements=st.integers(0, 3)))
    samples = stored.view(kind.sample).reshape(*planes, *kind.sample_shape)
    return Survey(
        volume=volume,
        box=box,
        fill=fill,
        values=Values(0.0, 2.0**60, whole=False) if kind.is_ordered else None,
        samples=(Sample(start, samples),),
        differs_in_scale=draw(st.booleans()),
    )


@st.composite
def wishes(draw: st.DrawFn) -> PackOptions:
    chunks = st.one_of(
        st.none(),
        st.integers(1, 9),
        st.tuples(*[st.integers(0, 9)] * 3),
        st.tuples(*[st.integers(0, 9)] * 4),
    )
    auto = ["auto", *(f"auto:{mode}" for mode in AUTO_MODES)]
    return PackOptions(
        purpose=draw(st.sampled_from(PURPOSES)),
        codec=draw(st.sampled_from([*auto, "zstd", "calv", "deflate", "zstd:delta=true"])),
        background_codec=draw(st.sampled_from(["zstd:level=9", "raw"])),
        roi=draw(st.sampled_from(["auto", "full", "tight"])),
        slice_axis=draw(st.integers(0, 2)),
        chunk=draw(chunks),
        background=draw(st.sampled_from(["exact", "drop"])),
        overview=draw(st.sampled_from([None, 0, 2, (2, 4, 8)])),
    )


def facts(plan: PackPlan) -> dict[str, Any]:
    """All of a plan as values that can be compared."""
    found = {field.name: getattr(plan, field.name) for field in fields(plan)}
    return {**found, "geom": build_geom(plan.geom), "affine": plan.geom.affine.tolist()}


@settings(max_examples=60, deadline=None)
@given(st.data(), wishes())
def test_every_plan_can_be_written_and_is_the_same_again(data: Any, options: PackOptions) -> None:
    survey = data.draw(surveys(options.slice_axis))
    try:
        plan = decide(survey, options)
    except (SourceError, UsageError) as refused:
        with pytest.raises(type(refused), match=re.escape(refused.message)):
            decide(survey, options)
        return
    assert facts(plan) == facts(decide(survey, options))
    build_geom(plan.geom)  # keeps every rule of the format
    geom = plan.geom
    assert vars(geom.volume) == vars(survey.volume)
    assert geom.roi in (survey.box, Box.whole(survey.volume.shape))
    assert geom.slice_axis == options.slice_axis
    assert plan.pipeline.fidelity is Fidelity.LOSSLESS
    assert (plan.background_pipeline is not None) == geom.background.is_stored
    if options.background == "exact":
        assert geom.background.is_exact
    assert plan.untried is None
    assert str(geom.roi) in str(plan)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(PURPOSES), st.integers(0, 2))
def test_what_is_chosen_takes_no_more_bytes_than_what_was_tried(
    data: Any, purpose: Any, axis: int
) -> None:
    survey = data.draw(surveys(axis))
    plan = decide(survey, PackOptions(purpose=purpose, slice_axis=axis))
    chosen = plan.provenance.get("codec")
    if survey.samples:
        assert isinstance(chosen, dict)
        best = min(chosen["tried"], key=chosen["tried"].get)
        assert plan.pipeline.codec == parse(best)
    else:
        assert chosen is None


# -- the background ------------------------------------------------------------------------------

BOX = Box((1, 2, 3), (7, 8, 8))


@pytest.mark.parametrize(
    ("box", "fill", "background", "policy", "written"),
    [
        (Box.whole(SHAPE), None, "exact", Background.FILL_VERIFIED, b"\0\0"),
        (Box.whole(SHAPE), None, "drop", Background.FILL_VERIFIED, b"\0\0"),
        (BOX, b"\x07\0", "exact", Background.FILL_VERIFIED, b"\x07\0"),
        (BOX, b"\x07\0", "drop", Background.FILL_VERIFIED, b"\x07\0"),
        (BOX, None, "exact", Background.RESIDUE_EXACT, b"\0\0"),
        (BOX, None, "drop", Background.FILL_LOSSY, b"\0\0"),
    ],
)
def test_the_policy_follows_from_what_is_outside(
    box: Box, fill: bytes | None, background: Any, policy: Background, written: bytes
) -> None:
    survey = survey_of(volume_of(), box=box, fill=fill)
    plan = decide(survey, PackOptions(codec="zstd", roi="tight", background=background))
    assert (plan.geom.background, plan.geom.fill) == (policy, written)


def test_a_box_outside_the_volume_is_refused() -> None:
    with pytest.raises(SourceError, match="outside the volume"):
        survey_of(volume_of(), box=Box((0, 0, 0), (13, 1, 1)))


# -- codec and filters ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("purpose", "kind", "codec"),
    [
        ("slices", "int16", "zstd"),  # calv would hold slices back
        ("patches", "int16", "calv"),
        ("series", "uint8", "calv"),
        ("planes", "int16", "zstd:level=9"),
        ("archive", "int16", "calv:level=small"),
        ("archive", "float32", "zstd:level=19"),
        ("patches", "float32", "zstd"),
        ("patches", "RGB24", "zstd"),
        ("patches", "complex64", "zstd"),
    ],
)
def test_what_is_chosen_before_there_are_voxels(purpose: Any, kind: str, codec: str) -> None:
    survey = survey_of(volume_of(kind=NAMED[kind]), is_seen=False)
    plan = decide(survey, PackOptions(purpose=purpose))
    assert plan.pipeline.codec == parse(codec)
    if purpose == "slices":  # one is written when it comes; of voxels that are there, many at once
        assert plan.geom.chunk_shape == (12, 10, 1, 1)
        there = decide(replace(survey, is_seen=True), PackOptions(purpose=purpose, codec=codec))
        assert there.geom.chunk_shape == (12, 10, 8, 1)


@pytest.mark.parametrize("is_seen", [True, False])
def test_a_codec_gets_the_same_filters_whether_or_not_voxels_are_there(*, is_seen: bool) -> None:
    for kind in ORDERED:
        survey = survey_of(volume_of(kind=kind), is_seen=is_seen)
        codec = "zstd:delta=true" if kind.is_integer else "zstd"
        plan = decide(survey, PackOptions(codec=codec, chunk=1))
        expected = Pipeline.fitting(plan.pipeline.codec, plan_spec(plan))
        assert plan.pipeline == expected


def plan_spec(plan: PackPlan) -> Any:
    from mroi.codecs import ChunkSpec

    geom = plan.geom
    return ChunkSpec((1, *geom.shape[1::-1]), geom.datatype.sample, geom.bits_stored)


def test_a_codec_that_does_not_take_the_type_says_what_would_help() -> None:
    survey = survey_of(volume_of(kind=NAMED["float32"]), is_seen=False)
    with pytest.raises(SourceError, match=r"mroi\.pack looks at them"):
        decide(survey, PackOptions(codec="zstd:delta=true"))
    fractions = replace(survey, values=Values(0.0, 1.0, whole=False))
    with pytest.raises(SourceError, match=r"\(the volume has float32\)"):
        decide(fractions, PackOptions(codec="zstd:delta=true"))
    whole = replace(survey, values=Values(0.0, 9.0, whole=True))
    assert decide(whole, PackOptions(codec="zstd:delta=true")).pipeline.filters


# -- a target ------------------------------------------------------------------------------------


def wave() -> np.ndarray:
    x, y, z = np.indices(SHAPE)
    return (500 + 300 * np.sin(x / 3) * np.cos(y / 4) + 4 * z).astype("<i2")


def lossy() -> Survey:
    array = wave()
    values = Values(float(array.min()), float(array.max()), whole=True)
    sample = Sample(0, np.ascontiguousarray(array.T)[np.newaxis])
    return survey_of(volume_of(), values=values, samples=(sample,))


def measured(plan: PackPlan, ratio: float = 3.0, off: float = 1.0) -> Attempt:
    setting = plan.untried
    assert setting is not None
    return Attempt(setting.codec, setting.tried, setting.rung, Loss(off, off**2, 0, 100, 1), ratio)


@needs("codecs")
@pytest.mark.parametrize(
    ("target", "step"), [(Target(max_error=4), -1), (Target(psnr=50), -1), (Target(ratio=9), 1)]
)
def test_a_setting_is_tried_on_the_whole_and_then_one_towards_the_target(
    target: Target, step: int
) -> None:
    survey, options = lossy(), PackOptions(codec="wavelet3d", quality=target)
    plan = decide(survey, options)
    assert plan.untried is not None
    bad, good = {"off": 99.0, "ratio": 0.5}, {"off": 1e-9, "ratio": 99.0}
    failed = survey.after(measured(plan, **bad))
    again = decide(failed, options)
    assert again.untried is not None
    assert (again.untried.rung - plan.untried.rung) * step > 0
    assert again.pipeline != plan.pipeline
    survey, good_ones = failed, []
    while again.untried is not None:
        good_ones.append(again.pipeline)
        survey = survey.after(measured(again, **good))
        again = decide(survey, options)
    assert len(survey.attempts) <= 4
    assert again.pipeline == good_ones[-1]


@needs("codecs")
def test_the_first_setting_keeps_the_error_on_the_samples_and_the_next_coarser_does_not() -> None:
    survey = lossy()
    options = PackOptions(codec="wavelet3d", quality=Target(max_error=4))
    plan = decide(survey, options)
    smaller = replace(options, quality=Target(ratio=2))  # which is not met: a coarser one is next
    coarser = decide(survey.after(measured(plan, ratio=1)), smaller)
    errors = []
    for pipeline in (plan.pipeline, coarser.pipeline):
        spec = replace(plan_spec(plan), shape=(SHAPE[2], SHAPE[1], SHAPE[0]))
        chunk = np.ascontiguousarray(wave().T)
        decoded = pipeline.decode(pipeline.encode(chunk, spec), spec)
        errors.append(np.abs(decoded.astype(int) - chunk).max())
    assert errors[0] <= 4 < errors[1]


@needs("codecs")
def test_a_target_out_of_reach() -> None:
    survey, options = lossy(), PackOptions(codec="jpegls", quality=Target(ratio=1e9))
    plan = decide(survey, options)
    assert plan.untried is not None
    assert plan.untried.rung == 127  # the coarsest: imagecodecs takes NEAR up to 127
    with pytest.raises(SourceError, match=r"no setting of jpegls reaches a ratio of 1e\+09"):
        decide(survey.after(measured(plan, ratio=1)), options)


def test_a_largest_error_chooses_the_codec_by_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also once a setting failed on the whole volume: then the codec stays."""
    candidates = ("calv:level=small", "zfp", "raw", "com.example.absent", "calv")
    monkeypatch.setitem(LOSSY_MODES, "fast", candidates)
    survey, options = lossy(), PackOptions(quality=Target(max_error=3))
    with pytest.raises(UsageError, match="no setting to choose"):  # raw: a list of ours is wrong
        decide(survey, options)
    monkeypatch.setitem(LOSSY_MODES, "fast", (*candidates[:2], *candidates[3:]))
    plan = decide(survey, options)
    chosen = cast("dict[str, Any]", plan.provenance["codec"])
    assert chosen["choice"] == "fast"
    assert {"calv", "calv:level=small"} <= chosen["tried"].keys()
    assert "com.example.absent" not in chosen["tried"]
    assert plan.untried is not None
    assert plan.untried.codec == min(chosen["tried"], key=chosen["tried"].get)
    assert plan.pipeline.codec.params() == {"near": 3}
    again = decide(survey.after(measured(plan, off=99.0)), options)
    assert again.untried is not None
    assert again.untried.codec == plan.untried.codec
    assert again.provenance == plan.provenance
    assert cast("dict[str, int]", again.pipeline.codec.params()).get("near", 0) < 3


def test_where_no_codec_reaches_it_the_first_says_why() -> None:
    survey = survey_of(volume_of(kind=NAMED["complex64"]))
    with pytest.raises(SourceError, match="lossy targets need an integer or float volume"):
        decide(survey, PackOptions(quality=Target(max_error=1)))


def test_a_level_is_kept_while_the_loss_is_found() -> None:
    for level in ("fast", "small"):
        codec = f"calv:level={level}"
        plan = decide(lossy(), PackOptions(codec=codec, quality=Target(max_error=4)))
        assert plan.pipeline.codec == Calv(level, 4)


def test_a_target_needs_values_with_an_order() -> None:
    survey = survey_of(volume_of(kind=NAMED["complex64"]))
    with pytest.raises(SourceError, match="lossy targets need an integer or float volume"):
        decide(survey, PackOptions(codec="wavelet3d", quality=Target(psnr=40)))


# -- overviews -----------------------------------------------------------------------------------


def test_viewers_get_an_overview_unless_slices_differ_in_scale() -> None:
    volume, planes = volume_of(), PackOptions(purpose="planes", codec="zstd")
    assert decide(survey_of(volume), planes).overview == (4, 4, 4)
    assert decide(survey_of(volume), replace(planes, overview=0)).overview is None
    assert decide(survey_of(volume), replace(planes, overview=2)).overview == (2, 2, 2)
    assert decide(survey_of(volume, differs_in_scale=True), planes).overview is None
    assert decide(survey_of(volume, is_seen=False), planes).overview is None
    with pytest.raises(SourceError, match="differ in scale"):
        decide(survey_of(volume, differs_in_scale=True), replace(planes, overview=2))
    with pytest.raises(UsageError, match="all voxels"):
        decide(survey_of(volume, is_seen=False), replace(planes, overview=2))


# -- what is said of it --------------------------------------------------------------------------


def test_a_plan_says_what_it_is() -> None:
    survey = survey_of(volume_of((12, 10, 8, 6)), box=BOX)
    plan = decide(survey, PackOptions(codec="zstd:level=3", roi="tight", chunk=(0, 0, 2, 3)))
    chunks = 3 * 2 + 4 * 2  # 5 slices by 2, 6 volumes by 3; slabs of 2 of 8 planes outside
    assert plan.geom.grid.chunks == chunks
    text = str(plan)
    assert text.startswith("ROI 1:7,2:8,3:8, zstd:")
    assert text.endswith(f"{chunks} chunks of 6 x 6 x 2 x 3 voxels")
    record = plan.to_json()
    assert (record["roi"], record["codec"]) == ("1:7,2:8,3:8", "zstd")
    assert record["chosen"] == {"roi": {"method": "tight"}}
    assert math.prod(plan.geom.chunk_shape) == 6 * 6 * 2 * 3


def test_methods_are_those_that_decide_knows() -> None:
    assert RoiMethod.__args__ == ("auto", "full", "tight", "medroi")


# -- how a target is approached ------------------------------------------------------------------


@pytest.mark.parametrize("target", [Target(psnr=50), Target(max_error=4), Target(ratio=9)])
@pytest.mark.parametrize("bias", [-4.0, 0.0, 3.0])
def test_few_attempts_come_close_to_the_target(target: Target, bias: float) -> None:
    """The whole is worse than the samples, or better: the rung found is next to one that fails."""

    def samples(rung: int) -> float:
        return (rung - 300) * 0.1 if target.wants_small else (300 - rung) * 0.1

    survey, tried = lossy(), []
    while True:
        proven, rung = _next_rung(target, survey, samples, 700)
        if proven:
            break
        tried.append(rung)
        margin = samples(rung) + bias
        loss = Loss(4 / 10 ** (margin / 20), 10 ** (-(50 + margin) / 10), 0, 1, 1)
        survey = survey.after(Attempt("ebb", {}, rung, loss, 9 * 10 ** (margin / 20)))
    assert len(tried) <= 4
    assert 0 <= samples(rung) + bias < 0.25
