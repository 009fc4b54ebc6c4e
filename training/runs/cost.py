"""Cost of a layer: its parameters, and the multiply-accumulates in its TFLite graph."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import keras
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from semanticac_keras import HEADS, ExportError, HTSATEncoder
from semanticac_keras.export import to_flatbuffer
from semanticac_keras.heads import head_from_preset

# Operators with multiply-accumulates that `_macs` cannot count.
_UNCOUNTED = {
    *("CONV_3D", "CONV_3D_TRANSPOSE", "IF", "SVDF", "TRANSPOSE_CONV", "WHILE"),
    *("UNIDIRECTIONAL_SEQUENCE_LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN"),
}


@dataclass(frozen=True)
class Cost:
    """Parameters and work of a layer.

    Args:
        parameters: number of parameters.
        macs: multiply-accumulates for one clip, see `count_macs`.
    """

    parameters: int
    macs: int


def tower_costs(preset: str) -> dict[str, Cost]:
    """Measure the audio encoder and every head of a preset.

    Args:
        preset: name in `semanticac_keras.presets.PRESETS`.

    Returns:
        Costs by name: `"audio_encoder"`, then the names in `semanticac_keras.HEADS`.

    Raises:
        ExportError: if a layer's work cannot be counted, see `count_macs`.
        ValueError: if the preset does not exist.
    """
    encoder = HTSATEncoder.from_preset(preset)
    log_mel = (encoder.num_frames, encoder.num_mels)
    token_map = (*encoder.output_grid, encoder.output_dim)
    costs = {"audio_encoder": measure(encoder, log_mel)}
    for head in HEADS:
        costs[head] = measure(head_from_preset(head, preset), token_map)
    return costs


def measure(layer: keras.Layer, input_shape: tuple[int, ...]) -> Cost:
    """Measure a layer, and build it first if necessary.

    Args:
        layer: layer or model with one input and one output.
        input_shape: shape of one clip, without the batch axis.

    Raises:
        ExportError: if its work cannot be counted, see `count_macs`.
    """
    macs = count_macs(layer, input_shape)
    return Cost(layer.count_params(), macs)


def count_macs(layer: keras.Layer, input_shape: tuple[int, ...]) -> int:
    """Count the multiply-accumulates of a layer for one clip.

    Converts the layer to TFLite at batch size 1 and counts the matrix products and convolutions of
    the graph. Conversion folds computations on weights alone, so they do not count; elementwise
    operations and means do not count either.

    Args:
        layer: layer or model with one input and one output; built first if necessary.
        input_shape: shape of one clip, without the batch axis.

    Raises:
        ExportError: if the layer cannot be converted, the backend is not TensorFlow, or an operator
            of the graph cannot be counted.
    """
    if not layer.built:
        layer.build((None, *input_shape))
    return count_graph_macs(
        to_flatbuffer(lambda x: layer(x, training=False), layer.variables, (1, *input_shape))
    )


def count_graph_macs(graph: bytes, input_shape: Sequence[int] | None = None) -> int:
    """Count the multiply-accumulates of one inference of a TFLite graph, see `count_macs`.

    Args:
        graph: the flatbuffer.
        input_shape: shape of the first input, if the graph leaves it open.

    Raises:
        ExportError: if an operator of the graph cannot be counted.
    """
    # The CPU delegate would hide the operators.
    interpreter = Interpreter(
        model_content=graph,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    if input_shape is not None:
        interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], input_shape)
        interpreter.allocate_tensors()
    shapes = {
        tensor["index"]: tuple(map(int, tensor["shape"]))
        for tensor in interpreter.get_tensor_details()
    }
    macs = 0
    for operator in interpreter._get_ops_details():
        if (name := operator["op_name"]) in _UNCOUNTED:
            raise ExportError(f"the multiplications of {name} cannot be counted")
        inputs = [shapes.get(index, ()) for index in operator["inputs"]]
        macs += _macs(name, inputs, shapes[operator["outputs"][0]])
    return macs


def _macs(name: str, inputs: list[tuple[int, ...]], output: tuple[int, ...]) -> int:
    """Return the multiply-accumulates of an operator: output size times products per value."""
    if name == "FULLY_CONNECTED":
        products = inputs[1][1]  # of (out, in)
    elif name == "CONV_2D":
        products = math.prod(inputs[1][1:])  # of (out, height, width, in)
    elif name == "DEPTHWISE_CONV_2D":
        products = math.prod(inputs[1][1:3])  # of (1, height, width, out)
    elif name == "BATCH_MATMUL":
        products = math.prod(inputs[0][-2:]) // output[-2]  # either operand may be transposed
    else:
        products = 0
    return math.prod(output) * products
