"""Through which filters a codec takes the voxels of a volume: one rule for `pack` and `create`."""

from __future__ import annotations

from mroi.codecs import ChunkSpec, Pipeline, Values, parse
from mroi.errors import CodecError, CodecUnavailableError, SourceError
from mroi.format.geom import VolumeGeometry
from mroi.packing.options import CodecChoice

__all__ = ["fit_codec", "needs_values"]


def fit_codec(codec: CodecChoice, volume: VolumeGeometry, values: Values | None) -> Pipeline:
    """Return the pipeline through which a codec takes the voxels of a volume.

    Parameters
    ----------
    codec : str, Codec or Pipeline
        A name or a codec gets the exact filters that it needs; a pipeline is taken as it is.
    volume : VolumeGeometry
        Shape and type of the voxels.
    values : Values or None
        Their range; None if it is not known, so that every value of the type may come.

    Raises
    ------
    CodecError
        If there is no such codec, it has no such setting, or it does not work here.
    SourceError
        If the codec does not take such voxels; the message says which it takes.
    """
    if isinstance(codec, Pipeline):
        return codec
    built = parse(codec) if isinstance(codec, str) else codec
    datatype = volume.datatype
    shape = (1, *volume.shape[1::-1], *datatype.sample_shape)
    try:
        return Pipeline.fitting(
            built, ChunkSpec(shape, datatype.sample, volume.bits_stored), values
        )
    except CodecUnavailableError:
        raise
    except CodecError as exc:
        text = f"the volume has {datatype.name}"
        if values is None and datatype.is_ordered:
            text += (
                ", and its values are not known beforehand: mroi.pack looks at them; or give a "
                "Pipeline with a filter, as mroi.codecs.Cast or mroi.codecs.Window"
            )
        raise SourceError(f"{exc.message} ({text})") from exc


def needs_values(codec: CodecChoice, volume: VolumeGeometry) -> bool:
    """Whether the range of the values decides if, and through which filters, a codec takes them.

    Raises
    ------
    CodecError
        If there is no such codec, or it has no such setting.
    SourceError
        If the codec does not take voxels of this type, whatever their values.
    """
    try:
        fit_codec(codec, volume, None)
    except SourceError:
        if volume.datatype.is_ordered:
            return True
        raise
    return False
