"""What the stereo networks cost at an image size: seconds and peak memory, measuring and training.

`python benchmarks/network_cost.py` writes `network_cost.md` to `benchmarks/results/`. Weights are random: the cost
does not depend on them. Every line is a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as utils does, before PyTorch is loaded

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks import setting
from stereo_prior import anynet, pam, pam_training, sttr, sttr_training
from stereo_prior.networks.anynet import AnyNet
from stereo_prior.networks.pasmnet import PASMnet
from stereo_prior.networks.sttr import STTR
from stereo_prior.pair import Eye, Pair
from stereo_prior.sparse_disparity import SparseDisparity
from utils.errors import InputError
from utils.stages import peak_memory_mb

LARGEST_SHARE = 0.15  # of the width: the disparities searched
POINTS = 1000
HEAD = ("network", "size", "work", "seconds", "peak memory, MB")


def main(argv: Sequence[str]) -> int:
    """Measure every network and write the table; return the exit status."""
    given = _parser().parse_args(argv)
    if given.one:
        network, work, width, height = given.one.split(",")
        sys.stdout.write(f"{measure(network, work, int(width), int(height)):.2f} {peak_memory_mb():.0f}\n")
        return 0
    rows: list[Sequence[str]] = []
    try:
        for size in given.sizes:
            width, height = (int(number) for number in size.split("x"))
            for network in given.networks:
                for work in ("measuring", "training") if network != "anynet" else ("measuring",):
                    rows.append((network, size, work, *_in_a_process(f"{network},{work},{width},{height}")))
                    sys.stdout.write(" ".join(rows[-1]) + "\n")
                    _write(given.out, setting.command_line("network_cost.py", argv), rows)
    except InputError as error:
        sys.stderr.write(f"\nerror: {error}\n")
        return 2
    return 0


def _write(out: Path, command: str, rows: Sequence[Sequence[str]]) -> None:
    notes = (
        "One eye measured, or one step of training (forwards, backwards, Adam), the second of two; peak of the "
        "whole process, Python and PyTorch included. The number behind `sttr` is `--sttr_stride`, px between its "
        f"tokens. Disparities up to {LARGEST_SHARE:.0%} of the width."
    )
    head = ["# Cost of the stereo networks", "", f"- `{command}`", f"- {setting.machine()}", "", notes, ""]
    out.mkdir(parents=True, exist_ok=True)
    (out / "network_cost.md").write_text("\n".join([*head, *setting.markdown_rows([HEAD, *rows]), ""]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "", allow_abbrev=False)
    usual = ["pam", "anynet", "sttr5", "sttr4", "sttr3"]
    parser.add_argument("--networks", nargs="+", default=usual, help=f"default {' '.join(usual)}")
    parser.add_argument("--sizes", nargs="+", default=["320x256", "640x512"], help="default 320x256 640x512")
    parser.add_argument("--out", type=Path, default=setting.RESULTS, help="folder for the table")
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)  # network,work,width,height: in this process
    return parser


def _in_a_process(line: str) -> tuple[str, str]:
    command = [sys.executable, __file__, "--one", line]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        raise InputError(
            f"{line} could not be measured",
            found=(found.stderr.splitlines() or [f"exit status {found.returncode}"])[-1],
            expected="seconds and memory",
            do="free memory, or leave the network or the size out",
        )
    seconds, memory = found.stdout.split()
    return seconds, memory


def measure(network: str, work: str, width: int, height: int) -> float:
    """Return the seconds of the second of two calls."""
    torch.manual_seed(0)
    call = _call(network, work, _pair(width, height))
    call()
    began = time.monotonic()
    call()
    return time.monotonic() - began


def _pair(width: int, height: int) -> Pair:
    random = np.random.default_rng(0)
    inside = np.ones((height, width), bool)
    eyes = [Eye(random.uniform(0, 255, (height, width, 3)).astype(np.float32), inside, inside) for _ in range(2)]
    return Pair(eyes[0], eyes[1], (0.0, LARGEST_SHARE * width))


def _call(network: str, work: str, pair: Pair) -> Callable[[], object]:
    """Return what is to be timed."""
    if network == "pam":
        parallax = PASMnet()
        if work == "measuring":
            return lambda: pam.disparity_px(parallax.eval(), pair)
        given = pam_training.example(pair)
        return _step(parallax, lambda: pam_training.losses(parallax, given))
    if network == "anynet":
        any_net = AnyNet().eval()
        return lambda: anynet.disparity_px(any_net, pair)
    transformer, stride = STTR(), int(network.removeprefix("sttr"))
    if work == "measuring":
        return lambda: sttr.disparity_px(transformer.eval(), pair, stride)
    height, width = pair.reference.tissue.shape
    random = np.random.default_rng(0)
    pixels = random.uniform(0, (width - 1, height - 1), (POINTS, 2))
    whole = sttr_training.example(pair, SparseDisparity(pixels, random.uniform(1, LARGEST_SHARE * width, POINTS)))
    part = sttr_training.band(whole, 0)
    return _step(transformer, lambda: sttr_training.losses(transformer, part, stride))


def _step(network: torch.nn.Module, loss_of: Callable[[], torch.Tensor]) -> Callable[[], object]:
    optimiser = torch.optim.Adam(network.parameters(), 1e-5)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        loss_of().backward()
        optimiser.step()

    return step


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
