"""Where sound comes from: one small file a kind of source, all alike (see `base.Source`)."""

from edge.sources.base import Gap, Source, SourceError
from edge.sources.file import file_source
from edge.sources.pcm import pcm_source

__all__ = ["Gap", "Source", "SourceError", "file_source", "pcm_source"]
