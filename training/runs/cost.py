"""What a layer costs: parameters, and multiplications counted in the graph that a device runs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import keras
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from semanticac_keras import HEADS, ExportError, HTSATEncoder
from semanticac_keras.export import to_flatbuffer
from semanticac_keras.heads import head_from_preset

# Operators that multiply and accumulate in a way that `_macs` cannot see.
_UNCOUNTED = {
    *("CONV_3D", "CONV_3D_TRANSPOSE", "IF", "SVDF", "TRANSPOSE_CONV", "WHILE"),
    *("UNIDIRECTIONAL_SEQUENCE_LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN"),
}


@dataclass(frozen=True)
class Cost:
    """Size and work of a layer.

    Args:
        parameters: values of its weights.
        macs: multiply-accumulates for one clip, see `count_macs`.
    """

    parameters: int
    macs: int


def tower_costs(preset: str) -> dict[str, Cost]:
    """The audio encoder, as `"audio_encoder"`, and every head of `semanticac_keras.HEADS`.

    Args:
        preset: one of `semanticac_keras.presets.PRESETS`.

    Raises:
        ExportError: see `count_macs`.
        ValueError: if there is no such preset.
    """
    encoder = HTSATEncoder.from_preset(preset)
    log_mel = (encoder.num_frames, encoder.num_mels)
    token_map = (*encoder.output_grid, encoder.output_dim)
    costs = {"audio_encoder": measure(encoder, log_mel)}
    for head in HEADS:
        costs[head] = measure(head_from_preset(head, preset), token_map)
    return costs


def measure(layer: keras.Layer, input_shape: tuple[int, ...]) -> Cost:
    """Size and work of a layer; it is built if it was not.

    Args:
        layer: a layer or model of one tensor.
        input_shape: of one clip, without the batch.

    Raises:
        ExportError: see `count_macs`.
    """
    macs = count_macs(layer, input_shape)
    return Cost(layer.count_params(), macs)


def count_macs(layer: keras.Layer, input_shape: tuple[int, ...]) -> int:
    """Multiply-accumulates of a layer for one clip.

    The layer is converted to TFLite at batch 1, and the graph's matrix products and convolutions
    are counted: what it computes of its weights alone, once, is not work. Nor are elementwise
    operations and means.

    Args:
        layer: a layer or model of one tensor; it is built if it was not.
        input_shape: of one clip, without the batch.

    Raises:
        ExportError: if it cannot be converted, Keras runs on another backend than TensorFlow, or
            the graph holds an operator that cannot be counted.
    """
    if not layer.built:
        layer.build((None, *input_shape))
    return count_graph_macs(
        to_flatbuffer(lambda x: layer(x, training=False), layer.variables, (1, *input_shape))
    )


def count_graph_macs(graph: bytes, input_shape: Sequence[int] | None = None) -> int:
    """Multiply-accumulates of one run of a TFLite graph, see `count_macs`.

    Args:
        graph: the flatbuffer.
        input_shape: of its first input, where the graph leaves it open.

    Raises:
        ExportError: if the graph holds an operator that cannot be counted.
    """
    # Without the CPU delegate, which would take the operators' place.
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
    """Multiply-accumulates of an operator: its outputs times the products in each."""
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
