"""Time, memory and size of ``rela_bids BIDS OUT group`` over many sessions' tables.

    python benchmarks/group_level.py --people 1000 --folder FOLDER

makes tables of people who do not exist, runs the group level on them, again with nothing new, and
again with ten more people, each in a process of its own.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from rela_bids.phantom.tables import MadeUp, write_participants, write_people
from rela_bids.tracers import TRACERS

RUN = """
import resource, sys
from rela_bids.cli.run import main
main(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_SELF)
print(f"{used.ru_utime + used.ru_stime:.1f} {used.ru_maxrss / 1e3:.0f}")
"""


def main() -> None:
    """Print a row for each run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--people", type=int, default=1000)
    parser.add_argument("--tracers", nargs="+", default=[*TRACERS][:5])
    parser.add_argument("--folder", type=Path, help="where tables go (default: a temporary one)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        measure(arguments.folder or Path(temporary), arguments.people, arguments.tracers)


def measure(folder: Path, people: int, tracers: list[str]) -> None:
    """Make the tables and run the command three times."""
    labels = [f"{number:05d}" for number in range(people + 10)]
    made_up = MadeUp(tracers=tracers, sessions=("1",))
    write_participants(folder / "bids", labels)
    write_people(folder / "out", labels[:-10], made_up)
    print(f"{people} sessions, {len(tracers)} tracers")
    print("run            CPU s  peak MB  page MB  read")
    run("first", folder)
    run("nothing new", folder)
    write_people(folder / "out", labels[-10:], made_up)
    run("ten people more", folder)


def run(name: str, folder: Path) -> None:
    """One run of the command."""
    paths = [str(folder / part) for part in ("bids", "out", "work")]
    command = [sys.executable, "-c", RUN, *paths[:2], "group", "-w", paths[2]]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, megabytes = done.stdout.split()
    page = (folder / "out" / "group.html").stat().st_size / 1e6
    read = done.stderr.split(";")[1].strip().split("\n")[0]
    print(f"{name:15}{seconds:>5}  {megabytes:>7}  {page:7.1f}  {read}")


if __name__ == "__main__":
    main()
