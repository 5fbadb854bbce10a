"""How long one forward pass of each preset's denoiser takes on this machine, and the ratio.

    python benchmarks/speed_of_a_pass.py [--shape 80 96 80] [--threads 2] [--repeats 3]

Three rows: the published network whole; `fast` whole; and `fast` without its MRI stream, which is
what each step of sampling costs, since the MRI is encoded once per session. Weights are random.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from rela_bids.model.networks import build_denoiser
from rela_bids.model.presets import PRESETS


def seconds(run: Callable[[], object], repeats: int) -> float:
    """Median time of `repeats` calls after one that is not timed."""
    times = []
    run()
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


@torch.inference_mode()
def time_passes(shape: tuple[int, int, int], repeats: int) -> dict[str, float]:
    """Seconds by name of the pass."""
    x, timesteps, labels = torch.randn(1, 3, *shape), torch.tensor([999]), torch.tensor([0])
    paper, fast = (build_denoiser(PRESETS[name].network, 3).eval() for name in ("paper", "fast"))
    features = fast.encode(x[:, 1:])
    passes = {
        "paper": lambda: paper(x, timesteps, labels),
        "fast": lambda: fast(x, timesteps, labels),
        "fast, MRI encoded before": lambda: fast.denoise(x[:, :1], features, timesteps, labels),
    }
    return {name: seconds(run, repeats) for name, run in passes.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", type=int, nargs=3, default=PRESETS["fast"].grid.shape)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    times = time_passes(tuple(options.shape), options.repeats)
    print(f"shape {tuple(options.shape)}, {options.threads} threads, torch {torch.__version__}")
    for name, one in times.items():
        print(f"{name:26} {one:8.3f} s {times['paper'] / one:8.1f} times faster")


if __name__ == "__main__":
    main()
