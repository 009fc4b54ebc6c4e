"""Where sound comes from: one small file a kind of source, all alike (see `base.Source`)."""

from edge.sources.base import Gap, Source, SourceError
from edge.sources.recordings import file_source, pcm_source

__all__ = ["Gap", "Source", "SourceError", "file_source", "pcm_source"]
