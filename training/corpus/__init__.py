"""A corpus of free sounds for pretraining: its sources, its building and its reader."""

from training.corpus.reader import Corpus, Recording

__all__ = ["Corpus", "Recording"]
