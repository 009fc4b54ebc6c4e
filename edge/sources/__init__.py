"""Sources of sound: one module per kind, all with the interface of `base.Source`."""

from edge.sources.base import Gap, Source, SourceError
from edge.sources.file import file_source
from edge.sources.pcm import pcm_source

__all__ = ["Gap", "Source", "SourceError", "file_source", "pcm_source"]
