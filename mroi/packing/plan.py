"""Decide how a volume is packed: from what is known of it and what is wished, without a source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

from typing_extensions import override

from mroi.codecs import ChunkSpec, Pipeline
from mroi.errors import SourceError, UsageError
from mroi.format.geom import Background, Geom, Layout
from mroi.packing.choose import Trials, choose_untried
from mroi.packing.fit import fit_codec
from mroi.packing.masked import find_masked
from mroi.packing.options import LOSSY_MODES, PackOptions, QualityMask
from mroi.packing.quality import Setting, choose_setting, find_setting
from mroi.packing.survey import Survey
from mroi.text import codec_text
from mroi.volume.focus import Focus
from mroi.volume.layout import ChunkShape
from mroi.volume.overview import Factor, check_factor

__all__ = ["PackPlan", "decide"]


@dataclass(frozen=True, slots=True, eq=False)
class PackPlan:
    """What will be written, before it is.

    Attributes
    ----------
    geom : Geom
        Geometry, ROI, chunks and background policy.
    pipeline : Pipeline
        For the chunks of the ROI.
    background_pipeline : Pipeline or None
        For the background, if the policy stores it.
    overview : tuple of 3 int, or None
        How much the overview that is written before the chunks is reduced along x, y, z.
    focus : Focus or None
        Voxels of the ROI that are kept better than the rest of it.
    peak : float or None
        Range of the values of the volume, if voxels are lost and it is known.
    provenance : dict
        How ROI, codec and chunks were chosen, for the file.
    untried : Setting or None
        The setting of a lossy codec that has yet to reach its target on the whole volume; None if
        nothing has to be tried.
    """

    geom: Geom
    pipeline: Pipeline
    background_pipeline: Pipeline | None
    overview: Factor | None
    focus: Focus | None
    peak: float | None
    provenance: Mapping[str, object]
    untried: Setting | None = None

    def to_json(self) -> dict[str, object]:
        """Return what programs may want to know of it, as members of a JSON object."""
        return {
            "roi": str(self.geom.roi),
            "background": self.geom.background.name,
            "codec": self.pipeline.codec.name,
            **self.pipeline.to_json(),
            "chunk": list(self.geom.chunk_shape),
            "chunks": self.geom.grid.chunks,
            "overview": self.overview,
            "chosen": dict(self.provenance),
        }

    @override
    def __str__(self) -> str:
        geom = self.geom
        codec = codec_text(self.pipeline.codec.name, self.pipeline.to_json())
        chunks = f"{geom.grid.chunks:,} chunk{'s' * (geom.grid.chunks != 1)}"
        *sides, volumes = geom.chunk_shape
        shape = " x ".join(map(str, sides if volumes == 1 else geom.chunk_shape))
        text = f"ROI {geom.roi}, {codec}, {chunks} of {shape} voxels"
        return text if self.overview is None else f"{text}, an overview"


def decide(survey: Survey, options: PackOptions) -> PackPlan:
    """Return the plan that serves the wishes best, given what is known of the volume.

    The same survey and options always give the same plan: trials count bytes, never seconds.

    Parameters
    ----------
    survey : Survey
        What was found: see `mroi.packing.survey.look`.
    options : PackOptions
        What is wished for.

    Raises
    ------
    SourceError
        If a codec does not take such voxels, no setting reaches the target, or an overview is
        wished of slices that differ in scale.
    UsageError
        If the codec does not take chunks of the shape that is wished for.
    """
    roi = options.roi if isinstance(options.roi, str) else "box"
    provenance: dict[str, object] = {"roi": {"method": roi}}
    if options.chunk is None:
        provenance["purpose"] = options.purpose
    overview = _overview(survey, options)
    if options.quality is not None or options.quality_mask is not None:
        setting = _choose_setting(survey, options, provenance)
        shape = _chunk_shape(survey, options, setting.pipeline)
        plan = _plan(survey, options, setting.pipeline, shape, provenance)
        focus = _focus(options.quality_mask, setting)
        untried = None if setting.is_proven else setting
        return replace(plan, overview=overview, focus=focus, untried=untried)
    trials = Trials(survey, options.cut)
    pipeline = _choose_codec(survey, options, trials, provenance)
    may_try = bool(survey.samples) and not _is_slow(pipeline, survey)
    if options.roi == "auto" and may_try and not trials.box_pays(pipeline):
        survey = survey.in_full()
    shape = _chunk_shape(survey, options, pipeline)
    if may_try and options.cut.is_free(survey.volume.shape):
        shape, tried = trials.choose_span(pipeline, survey.box, shape)
        provenance["volumes"] = {"chunk": shape[3], "tried": tried}
    return replace(_plan(survey, options, pipeline, shape, provenance), overview=overview)


def _is_slow(pipeline: Pipeline, survey: Survey) -> bool:
    """Whether the codec says that it takes long: then nothing is tried that it would only waste."""
    volume = survey.volume
    shape = (1, *volume.shape[1::-1], *volume.datatype.sample_shape)
    spec = ChunkSpec(shape, volume.datatype.sample, volume.bits_stored)
    return pipeline.encode_seconds(spec) > 0


def _choose_codec(
    survey: Survey, options: PackOptions, trials: Trials, provenance: dict[str, object]
) -> Pipeline:
    """Return the codec that is given, or the best of its mode, with the filters that it needs."""
    if options.mode is None:
        return fit_codec(options.codec, survey.volume, survey.values)
    if not survey.samples:
        return choose_untried(options, survey)
    trial = trials.choose_codec(options.mode)
    provenance["codec"] = trial.to_json()
    return trial.pipeline


def _choose_setting(survey: Survey, options: PackOptions, provenance: dict[str, object]) -> Setting:
    """Return the setting of the codec that is given, or of the best one of its mode."""
    quality, mask = options.quality, options.quality_mask
    if mask is not None:
        codec = LOSSY_MODES["lossy"][0] if options.mode else cast("str", options.codec)
        return find_masked(codec, mask, mask.rest(quality), survey)
    assert quality is not None
    if options.mode is None:
        return find_setting(cast("str", options.codec), quality, survey)
    setting = choose_setting(options.mode, quality, survey)
    provenance["codec"] = {"choice": options.mode, "tried": dict(setting.tried)}
    return setting


def _focus(mask: QualityMask | None, setting: Setting) -> Focus | None:
    """Return what a quality mask means with a setting."""
    return None if mask is None else Focus(mask.mask, 10 ** (-setting.drop / 10))


def _chunk_shape(survey: Survey, options: PackOptions, pipeline: Pipeline) -> ChunkShape:
    """Return the chunk that is wished for, or that serves the purpose."""
    cut, volume = options.cut, survey.volume
    if not survey.is_seen and cut.chunk is None and cut.purpose == "slices":
        # A slice that was pushed shall not wait for the next ones, as it would in a thicker chunk.
        cut = replace(cut, chunk=pipeline.codec.default_slices)
    return cut.shape(cut.extents(survey.box, volume.shape, volume.itemsize), pipeline.codec)


def _plan(
    survey: Survey,
    options: PackOptions,
    pipeline: Pipeline,
    shape: ChunkShape,
    provenance: dict[str, object],
) -> PackPlan:
    """Return the plan of these chunks, with the background policy that what was found asks for."""
    policy, fill = Background.FILL_VERIFIED, bytes(survey.volume.itemsize)
    if not survey.is_whole:
        if survey.fill is not None:
            fill = survey.fill
        elif options.background == "drop":
            policy = Background.FILL_LOSSY
        else:
            policy = Background.RESIDUE_EXACT
    layout = Layout(
        roi=survey.box,
        chunk_shape=shape,
        slice_axis=options.cut.slice_axis,
        background=policy,
        fill=fill,
    )
    behind = options.background_pipeline if policy.is_stored else None
    geom = Geom.of(survey.volume, layout)
    return PackPlan(geom, pipeline, behind, None, None, survey.span, provenance)


def _overview(survey: Survey, options: PackOptions) -> Factor | None:
    """Return how much the overview is reduced; None for no overview."""
    if options.overview is None:
        able = survey.is_seen and not survey.differs_in_scale
        return (4, 4, 4) if able and options.purpose == "planes" else None
    if options.overview == 0:
        return None
    if not survey.is_seen:
        raise UsageError("an overview needs all voxels at once: mroi.pack makes one")
    if survey.differs_in_scale:
        raise SourceError("no overview: slices differ in scale; leave it out")
    return check_factor(options.overview)
