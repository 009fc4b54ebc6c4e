"""Child process that writes Hugging Face's encoder as files for several runtimes.

`python -m training.bench.peers FOLDER` reads all arguments of `HTSATEncoder` as JSON from stdin and
writes one line of JSON: the MACs of the model, and the reason for each file it could not write.
"""

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

CLAP, ONNX, ONNX_INT8 = "clap", "clap.onnx", "clap-int8.onnx"
# Newest operator set of the tracing exporter that does not need onnxscript.
_OPSET = 17


def make_peers(folder: Path, audio_encoder: dict[str, Any]) -> dict[str, Any]:
    """Write the model with random weights for PyTorch and as ONNX in float32 and int8.

    Args:
        folder: directory for the files.
        audio_encoder: all arguments of `HTSATEncoder`.

    Returns:
        `macs` per window, and `missing`: reasons by the name of each file not written.

    Raises:
        ImportError: if PyTorch or transformers is not installed.
        ValueError: if Hugging Face's model does not support these sizes.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import ClapAudioModel

    from training.bench.torch_step import clap_config

    torch.manual_seed(0)
    model = ClapAudioModel(clap_config(audio_encoder)).eval()
    model.save_pretrained(folder / CLAP)
    shape = (audio_encoder["num_frames"], audio_encoder["num_mels"])
    (folder / CLAP / "log_mel_shape.json").write_text(json.dumps(shape))
    log_mel = torch.randn(1, 1, *shape)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(input_features=log_mel)
    missing = {}
    try:
        _write_onnx(model, log_mel, folder / ONNX)
    except Exception as error:  # the exporter raises many kinds
        missing[ONNX] = missing[ONNX_INT8] = _reason(error)
    else:
        try:
            _write_int8(folder / ONNX, folder / ONNX_INT8)
        except Exception as error:
            missing[ONNX_INT8] = _reason(error)
    return {"macs": counter.get_total_flops() // 2, "missing": missing}


def _write_onnx(model: Any, log_mel: Any, path: Path) -> None:
    """Trace the model up to its pooled output and pre-process the graph for quantisation."""
    import torch
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, log_mel: torch.Tensor) -> torch.Tensor:
            pooled: torch.Tensor = self.model(input_features=log_mel).pooler_output
            return pooled

    torch.onnx.export(Pooled().eval(), (log_mel,), path, dynamo=False, opset_version=_OPSET)
    quant_pre_process(path, path, skip_symbolic_shape=True)


def _write_int8(source: Path, target: Path) -> None:
    """Quantise weights to int8; activations are scaled dynamically."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(source, target, weight_type=QuantType.QInt8)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


if __name__ == "__main__":
    # Libraries also print to stdout: redirect that to stderr and keep the pipe for replies.
    pipe = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    try:
        made = make_peers(Path(sys.argv[1]), json.load(sys.stdin))
    except (ImportError, ValueError) as error:
        made = {"error": _reason(error)}
    print(json.dumps(made), file=pipe, flush=True)
