"""Streaming sound classification on small devices: numpy and LiteRT, no training framework."""

from edge.events.detector import Detector
from edge.events.event import Event
from edge.events.policy import Policy
from edge.inference.bundle import BundleContract, BundleError, Probe, read_contract, write_bundle
from edge.inference.frontend import FrontEnd, StreamingLogMel, log_mel
from edge.inference.interpreter import Interpreter, Prediction, measure_probe
from edge.inference.streaming import Classification, StreamingClassifier
from edge.sources import Gap, SourceError, file_source, pcm_source

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
