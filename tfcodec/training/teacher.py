"""Training of parts that need minutes and nothing of the rest of the network: the landmark prior, the restorer."""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Callable
from pathlib import Path

from torch import Tensor, nn

from .steps import adamw, clipped_step, follow


def add_options(p: argparse.ArgumentParser) -> None:
    """The options that all such trainings have."""
    p.add_argument("--weights", type=Path, help="such a file, to begin with")
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--threads", type=int, default=0)
    p.add_argument("--device")


class Teacher:
    """Trains a small network for so many minutes, with a moving average and a cosine learning rate."""

    def __init__(self, network: nn.Module, rate: float, minutes: float, report: float = 60) -> None:
        self.network, self.rate, self.seconds, self.report = network, rate, 60 * minutes, report
        self.optimiser = adamw(network, rate, decay=0.02)
        self.average = copy.deepcopy(network).requires_grad_(False).eval()

    def run(self, name: str, loss: Callable[[], Tensor], measure: Callable[[nn.Module], dict[str, float]]) -> int:
        """Returns the number of steps."""
        begin = said = time.monotonic()
        steps = 0
        self.network.train()
        while (now := time.monotonic() - begin) < self.seconds:
            rate = self.rate * min(1.0, (steps + 1) / 100)
            for group in self.optimiser.param_groups:
                group["lr"] = rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * now / self.seconds)))
            self.optimiser.zero_grad(set_to_none=True)
            value = loss()
            value.backward()  # type: ignore[no-untyped-call]
            clipped_step(self.optimiser, self.network, 1.0)
            follow(self.average, self.network, steps)
            steps += 1
            if time.monotonic() - said > self.report:
                said = time.monotonic()
                figures = " ".join(f"{k} {v:.4f}" for k, v in measure(self.average).items() if not k.endswith("_key"))
                print(f"{name} step {steps} {now / 60:.1f} min loss {float(value.detach()):.4f} val {figures}")
        return steps
