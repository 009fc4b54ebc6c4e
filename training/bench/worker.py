"""Child process that trains one contender; each process has one Keras backend.

It reads a workload, reports that it is ready, then runs the number of steps in each further line.
Lines are JSON; an error is the last reply.
"""

import ctypes
import json
import math
import os
import sys
from collections.abc import Callable
from typing import Any, Protocol, TextIO

from training.bench.workload import Workload

_WARM_UP_STEPS = 2  # the second may compile again for the memory layout the first left
# Without bfloat16 instructions, a CPU takes a minute for a product of 2048.
_PRODUCT_SIZE, _PRODUCT_SIZE_CPU = 8192, 512
_PRODUCT_SECONDS = 0.2


class Step(Protocol):
    """Model that trains on its workload."""

    device: str
    num_parameters: int
    counts_flops: bool

    def run(self, steps: int) -> tuple[float, float]:
        """Run steps; return the seconds and the loss of the last step."""

    def multiply(self, size: int, products: int) -> float:
        """Seconds for a number of products of square matrices."""


def serve(name: str, requests: TextIO, answers: TextIO) -> None:
    """Serve requests until `requests` ends.

    Args:
        name: one of `training.bench.race.TITLES`.
        requests: a workload, then numbers of steps, one per line.
        answers: stream for the replies.
    """

    def answer(**reply: Any) -> None:
        _give_memory_back()
        print(json.dumps(reply), file=answers, flush=True)

    try:
        make = _implementation(name)
        workload = Workload.from_json(requests.readline())
        step = make(workload, not name.endswith("eager"))
        for _ in range(_WARM_UP_STEPS):
            seconds, _ = step.run(1)
        flops = _count_flops(step) if step.counts_flops else None
        answer(
            device=step.device,
            num_parameters=step.num_parameters,
            seconds_per_step=seconds,
            flops=flops,
        )
        size = _PRODUCT_SIZE_CPU if step.device == "cpu" else _PRODUCT_SIZE
        for line in requests:
            rate = _product_flops_per_second(step, size)
            step.run(1)  # allocates the memory released after the previous request
            seconds, loss = step.run(json.loads(line))
            if not math.isfinite(loss):
                raise ValueError(f"the loss must be finite. Received: {loss}")
            answer(seconds=seconds, product_flops_per_second=rate)
    except Exception as error:  # must not stop the other contenders
        answer(error=" ".join(str(error).split()))


def _implementation(name: str) -> Callable[[Workload, bool], Step]:
    """Import the constructor of the step, which loads its framework."""
    if name.startswith("peer"):
        from training.bench.torch_step import TorchStep

        return TorchStep
    from training.bench.keras_step import KerasStep

    return KerasStep


def _give_memory_back() -> None:
    """Return freed memory to the system for the next contender; the C library would keep it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


def _count_flops(step: Step) -> int:
    """Operations in the matrix products and convolutions of a step, counted by PyTorch."""
    from torch.utils.flop_counter import FlopCounterMode

    counts = []
    for steps in (1, 2):
        with FlopCounterMode(display=False) as counter:
            step.run(steps)
        counts.append(counter.get_total_flops())
    return counts[1] - counts[0]  # excludes work done once per run


def _product_flops_per_second(step: Step, size: int) -> float:
    """Operations per second in products of two square matrices."""
    products, seconds = 1, step.multiply(size, 1)
    while seconds < _PRODUCT_SECONDS:
        products = math.ceil(1.5 * products * _PRODUCT_SECONDS / seconds)
        seconds = step.multiply(size, products)
    return 2.0 * size**3 * products / seconds


if __name__ == "__main__":
    # Libraries also print to stdout: redirect that to stderr and keep the pipe for replies.
    pipe = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(sys.argv[1], sys.stdin, pipe)
