"""Race of training steps. Contenders take turns so that load on the machine affects all alike."""

import math
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from training.bench.contenders import Contender, Contest
from training.bench.workload import Workload

TITLES = {
    "tensorflow": "ours, Keras on TensorFlow (XLA)",
    "jax": "ours, Keras on JAX",
    "torch-eager": "ours, Keras on PyTorch (eager)",
    "peer-eager": "Hugging Face on PyTorch (eager)",
    "peer-compiled": "Hugging Face on PyTorch (torch.compile)",
}

_TURN_SECONDS = 1.0


@dataclass
class Result:
    """Measurements of one contender.

    Args:
        name: one of `TITLES`.
        device: kind of device, such as `"cpu"`.
        num_parameters: number of trainable parameters.
        flops: operations per step, if counted.
        clips_per_second: training rate in each round.
        product_flops_per_second: rate of the framework's matrix product in each round.
    """

    name: str
    device: str
    num_parameters: int
    flops: int | None
    clips_per_second: list[float] = field(default_factory=list)
    product_flops_per_second: list[float] = field(default_factory=list)


def run_race(
    names: Sequence[str], workload: Workload, rounds: int
) -> tuple[list[Result], dict[str, str]]:
    """Measure the training steps of all contenders, one at a time.

    Args:
        names: of the contenders.
        workload: sizes and data of the step.
        rounds: number of measurements per contender; each is one untimed step followed by about
            a second of timed steps.

    Returns:
        Results of the contenders that finished, in the given order, and the reason for each
        failure by name.
    """
    with Contest() as contest:
        contest.running = {name: trainer(name) for name in names}
        # With an accelerator, compile in parallel. A processor has neither the cores nor the
        # memory for several first steps.
        groups = [names] if shutil.which("nvidia-smi") else [[name] for name in names]
        ready: dict[str, Any] = {}
        for group in groups:
            ready |= contest.ask(dict.fromkeys(group, workload.to_json()))
        steps = {
            name: math.ceil(_TURN_SECONDS / made.pop("seconds_per_step"))
            for name, made in ready.items()
        }
        results = {name: Result(name, **made) for name, made in ready.items()}
        for _ in range(rounds):
            for name in list(contest.running):
                for turn in contest.ask({name: str(steps[name])}).values():
                    rate = steps[name] * workload.batch_size / turn["seconds"]
                    results[name].clips_per_second.append(rate)
                    results[name].product_flops_per_second.append(turn["product_flops_per_second"])
        return [results[name] for name in contest.running], contest.left_out


def trainer(name: str) -> Contender:
    """Start a process of `training.bench.worker`.

    Args:
        name: one of `TITLES`.
    """
    return Contender(
        [sys.executable, "-m", "training.bench.worker", name],
        {
            "KERAS_BACKEND": name.partition("-")[0].replace("peer", "torch"),
            # Several processes share one accelerator: allocate memory on demand.
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
            # JAX and TensorFlow use TF32 for float32 products; PyTorch must match.
            "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1",
        },
    )
