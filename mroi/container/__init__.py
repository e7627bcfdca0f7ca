"""The container: frames in order, an index, checks. Payloads and codec names are opaque here.

low
    `sections` (head, preface and tail, checked as a whole), `source` (where bytes come from),
    `inputs` (paths, pipes and URLs), `parts` (outputs that appear when they are whole)
middle, sans-IO
    `parser` (bytes to events), `builder` (values to bytes)
high, the thin shells that own a source or a sink
    `reader`, `writer`, `remote` (ranges over HTTP and fsspec), `cache` (what these read, on disk),
    `salvage` (of a damaged file)
"""

from mroi.container.builder import ContainerBuilder
from mroi.container.inputs import copy_stream, is_pipe, is_url, name_of, on_disk, stored
from mroi.container.parser import NEED_DATA, ChunkEvent, ContainerParser, EndEvent, HeadEvent
from mroi.container.reader import Chunk, ContainerReader, Run, StoredChunk
from mroi.container.salvage import Salvaged, salvage
from mroi.container.sections import Head, MetadataFrame, Tail
from mroi.container.source import (
    FileObjectSource,
    FileSource,
    MemorySource,
    Source,
    identity_of,
    is_one_of,
    open_source,
    refuse_inputs,
)
from mroi.container.writer import AtomicFile, AtomicFolder, ContainerWriter

__all__ = [
    "NEED_DATA",
    "AtomicFile",
    "AtomicFolder",
    "Chunk",
    "ChunkEvent",
    "ContainerBuilder",
    "ContainerParser",
    "ContainerReader",
    "ContainerWriter",
    "EndEvent",
    "FileObjectSource",
    "FileSource",
    "Head",
    "HeadEvent",
    "MemorySource",
    "MetadataFrame",
    "Run",
    "Salvaged",
    "Source",
    "StoredChunk",
    "Tail",
    "copy_stream",
    "identity_of",
    "is_one_of",
    "is_pipe",
    "is_url",
    "name_of",
    "on_disk",
    "open_source",
    "refuse_inputs",
    "salvage",
    "stored",
]
