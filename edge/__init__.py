"""Streaming sound classification on small devices: numpy and LiteRT, no training framework."""

from edge.bundle import BundleContract, BundleError, Probe, read_contract, write_bundle
from edge.detector import Detector
from edge.events import Event
from edge.frontend import FrontEnd, StreamingLogMel, log_mel
from edge.interpreter import Interpreter, Prediction, measure_probe
from edge.policy import Policy
from edge.sources import Gap, SourceError, file_source, pcm_source
from edge.streaming import Classification, StreamingClassifier

__all__ = [
    "BundleContract",
    "BundleError",
    "Classification",
    "Detector",
    "Event",
    "FrontEnd",
    "Gap",
    "Interpreter",
    "Policy",
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
