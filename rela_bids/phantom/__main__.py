"""``python -m rela_bids.phantom OUT``: a BIDS dataset of simulated heads."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rela_bids.exceptions import RelaBidsError, UsageError
from rela_bids.phantom.dataset import Recipe, write_dataset
from rela_bids.phantom.pet import PATTERNS
from rela_bids.tracers import TRACERS


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m rela_bids.phantom",
        description="Write a BIDS dataset of digital head phantoms: T1w, FLAIR and PET, all "
        "simulated, with the truth in OUT/derivatives/truth.",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write to")
    parser.add_argument("--subjects", type=int, default=2, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="S")
    parser.add_argument(
        "--tracers", nargs="+", default=list(PATTERNS), metavar="LABEL", help=", ".join(PATTERNS)
    )
    parser.add_argument(
        "--voxel-size", type=float, default=1.0, metavar="MM", help="of the T1w (default 1)"
    )
    parser.add_argument(
        "--sessions", type=int, metavar="N", help="per person, two years apart (default: none)"
    )
    parser.add_argument(
        "--frames", type=int, default=4, metavar="N", help="within each PET window (default 4)"
    )
    parser.add_argument(
        "--without-flair", type=float, default=0.0, metavar="SHARE", help="of the sessions"
    )
    parser.add_argument(
        "--missing-pet", type=float, default=0.0, metavar="SHARE", help="of each session's tracers"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns an exit code of `rela_bids.exceptions.ExitCode`."""
    options = build_parser().parse_args(argv)
    fields = {key: value for key, value in vars(options).items() if key not in ("out", "tracers")}
    try:
        unknown = [label for label in options.tracers if label not in TRACERS]
        if unknown:
            raise UsageError(
                f"--tracers {unknown[0]} is not known: choose among {', '.join(TRACERS)}"
            )
        tracers = [TRACERS[label] for label in options.tracers]
        write_dataset(options.out, Recipe(tracers=tracers, **fields))
    except RelaBidsError as error:
        print(f"rela_bids.phantom: {error}", file=sys.stderr)
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
