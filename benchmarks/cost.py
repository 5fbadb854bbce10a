"""What sampling costs as work grows, and how it stands to the published sampler.

    python benchmarks/cost.py --out docs/benchmarks.md [--published-passes 10]

The first table is of `fast`: processor time and largest memory for one session by voxel size and
number of tracers, at the default samples and steps. The second holds one volume of `fast` against
the 1,000 passes of the published network on the same grid, from as many passes as are asked for,
in turns with volumes of `fast`. Weights are random: they do not change the cost.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from processes import in_a_process_of_its_own
from tables import insert_table, markdown

from rela_bids.model.diffusion import Schedule
from rela_bids.model.networks import build_denoiser
from rela_bids.model.presets import PRESETS
from rela_bids.model.sampling import sample_noise, sample_with_features

FAST = PRESETS["fast"]
VOXEL_SIZES = (4.0, 2.0, 1.5)
N_TRACERS = (1, 2, 3, 4, 5)
PUBLISHED_PASSES = 1000

Shape = tuple[int, int, int]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="page with marks to put the tables between")
    parser.add_argument("--voxel-sizes", type=float, nargs="*", default=VOXEL_SIZES, help="mm")
    parser.add_argument("--tracers", type=int, nargs="+", default=N_TRACERS, help="numbers of them")
    parser.add_argument("--published-passes", type=int, default=10)
    options = parser.parse_args()
    text = growth_table(options.voxel_sizes, options.tracers) if options.voxel_sizes else ""
    if options.published_passes:
        text += "\n" + in_a_process_of_its_own(published_table, options.published_passes)
    print(text)
    if options.out:
        insert_table(options.out, "cost", text)


def growth_table(voxel_sizes: Sequence[float], tracers: Sequence[int]) -> str:
    """Rows by voxel size and number of tracers."""
    lines = [["voxels", "mm", "million", "tracers", "processor, s", "s per tracer", "memory, MiB"]]
    for voxel_size in voxel_sizes:
        grid = FAST.grid.with_voxel_size(voxel_size, multiple_of=FAST.network.stride)
        x, y, z = grid.shape
        for n in tracers:
            seconds, mebibytes = in_a_process_of_its_own(session, grid.shape, n)
            lines.append(
                [
                    f"{x} x {y} x {z}",
                    f"{voxel_size:g}",
                    f"{x * y * z / 1e6:.2f}",
                    str(n),
                    f"{seconds:.1f}",
                    f"{seconds / n:.2f}",
                    f"{mebibytes:.0f}",
                ]
            )
    return (
        f"{FAST.n_samples} samples of {FAST.sampling_steps} steps for each tracer, one thread, "
        f"torch {torch.__version__}; the memory is all of the process, the program included.\n\n"
        f"{markdown(lines)}"
    )


def session(shape: Shape, tracers: int) -> tuple[float, float]:
    """Processor time of one session, s, and the largest memory, MiB."""
    torch.set_num_threads(1)
    denoiser = build_denoiser(FAST.network, max(N_TRACERS)).eval()
    start = time.process_time()
    synthesise(denoiser, torch.randn(1, 2, *shape), tracers)
    seconds = time.process_time() - start
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@torch.inference_mode()
def synthesise(denoiser: torch.nn.Module, mri: torch.Tensor, tracers: int) -> None:
    """All samples of a session, one in memory at a time, as `rela_bids.model.inference` does."""
    schedule, shape = Schedule(FAST.diffusion), mri.shape[2:]
    features = denoiser.encode(mri)
    for tracer in range(tracers):
        for number in range(FAST.n_samples):
            noise = sample_noise(schedule, number, 0, tracer)
            sample_with_features(
                denoiser, features, shape, tracer, schedule, FAST.sampling_steps, noise
            )


@torch.inference_mode()
def published_table(passes: int) -> str:
    """A volume of `fast` and a pass of `paper`, in turns."""
    torch.set_num_threads(1)
    shape = FAST.grid.shape
    paper, fast = (
        build_denoiser(PRESETS[name].network, max(N_TRACERS)).eval() for name in ("paper", "fast")
    )
    x, timesteps, labels = torch.randn(1, 3, *shape), torch.tensor([999]), torch.tensor([0])
    features = fast.encode(x[:, 1:])
    runs = {
        "pass of `paper`": lambda: paper(x, timesteps, labels),
        "volume of `fast`": lambda: synthesise(fast, x[:, 1:], 1),
        "pass of `fast`, MRI encoded": lambda: fast.denoise(x[:, :1], features, timesteps, labels),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(passes):
        for name, run in runs.items():
            start = time.process_time()
            run()
            seconds[name].append(time.process_time() - start)
    one, volume, small = (statistics.median(values) for values in seconds.values())
    ratio = PUBLISHED_PASSES * one / volume
    return (
        f"On {' x '.join(map(str, shape))} voxels, medians of {passes} in turns, processor time on "
        f"one thread: a pass of the published network takes {one:.1f} s, so that its 1,000 passes "
        f"take {PUBLISHED_PASSES * one / 3600:.1f} h; a volume of `fast`, MRI and all "
        f"{FAST.n_samples * FAST.sampling_steps} passes, takes {volume:.2f} s, "
        f"**{ratio:.0f} times less**. A pass of `fast` alone takes {small:.3f} s, "
        f"{one / small:.0f} times less than one of the published network.\n"
    )


if __name__ == "__main__":
    main()
