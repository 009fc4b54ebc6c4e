"""All contenders on one workload, in turns: a busy moment of the machine hits them alike."""

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
    """What one contender did.

    Args:
        name: one of `TITLES`.
        device: what it ran on, such as `"cpu"`.
        num_parameters: trained ones of its model.
        flops: operations of one step, where it counted them.
        clips_per_second: its rate in each round.
        product_flops_per_second: that of its framework's matrix product in each round.
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
    """Let all contenders train, one at a time.

    Args:
        names: who takes part.
        workload: what they train.
        rounds: turns that each gets; a turn is a step, and then as many as take about a second,
            which alone are timed.

    Returns:
        Results of those that finished, in the order given, and why each of the others did not.
    """
    with Contest() as contest:
        contest.running = {name: trainer(name) for name in names}
        # Where there is an accelerator, compile at once. A processor has neither cores nor memory
        # for several first steps.
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
    """A process that trains when it is told to, see `training.bench.worker`.

    Args:
        name: one of `TITLES`.
    """
    return Contender(
        [sys.executable, "-m", "training.bench.worker", name],
        {
            "KERAS_BACKEND": name.partition("-")[0].replace("peer", "torch"),
            # Several processes share one accelerator: each takes what it needs.
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
            # JAX and TensorFlow take TF32 for float32 products, so PyTorch shall too.
            "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1",
        },
    )
