"""Datasets, training, evaluation and their command lines."""

import os

# TensorFlow reads both when it is imported. Its log only repeats what is raised; and its oneDNN
# kernels, which it uses by default on some processors only, are faster on the others too.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
