import os
import subprocess
import sys

import pytest

STEP = """
import keras, numpy as np
from semanticac_keras import SemanticAC
from tests import micro

micro.register()
keras.config.set_dtype_policy("mixed_bfloat16")
model = SemanticAC.from_preset(micro.NAME, ["a", "b"])
sounds = np.random.default_rng(0).standard_normal((4, 5120)).astype("float32")
print(float(model.train_on_batch(sounds, np.arange(4) % 2)[0]))
"""


@pytest.mark.slow
def test_pytorch_trains_in_bfloat16_without_avx_512():
    """oneDNN, PyTorch's library of CPU kernels, has some of bfloat16 only for AVX-512."""
    pytest.importorskip("torch")
    environment = {**os.environ, "KERAS_BACKEND": "torch", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    command = [sys.executable, "-c", STEP]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert 0.0 < float(done.stdout.split()[-1]) < 10.0
