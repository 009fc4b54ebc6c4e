"""Streaming sound classification on small devices: numpy and LiteRT, no training framework."""

from edge.bundle import BundleContract, BundleError, Probe, read_contract, write_bundle
from edge.frontend import FrontEnd, StreamingLogMel, log_mel
from edge.interpreter import Interpreter, Prediction, measure_probe
from edge.sources import SourceError, file_source, pcm_source
from edge.streaming import Classification, StreamingClassifier

__all__ = [
    "BundleContract",
    "BundleError",
    "Classification",
    "FrontEnd",
    "Interpreter",
    "Prediction",
    "Probe",
    "SourceError",
    "StreamingClassifier",
    "StreamingLogMel",
    "file_source",
    "log_mel",
    "measure_probe",
    "pcm_source",
    "read_contract",
    "write_bundle",
]
