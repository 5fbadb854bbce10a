"""The command: settings to a graph, the graph's end to an exit code."""

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from rela_bids.exceptions import ExitCode, RelaBidsError
from rela_bids.settings import Settings


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``rela_bids`` with the arguments of the command line; returns the exit code."""
    from rela_bids.cli.parser import parse

    # What calls this in its own process has handler and variables back when it ends.
    former, variables = signal.signal(signal.SIGTERM, _stop), dict(os.environ)
    settings = None
    try:
        settings = parse(sys.argv[1:] if argv is None else argv)
        return run(settings)
    except RelaBidsError as error:
        print(f"rela_bids: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("rela_bids: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    except Exception:
        return _report_bug(settings)
    finally:
        signal.signal(signal.SIGTERM, former)
        os.environ.clear()
        os.environ.update(variables)


def _stop(number: int, frame: object) -> None:
    """A scheduler's SIGTERM ends a run as Ctrl-C does: workers with it, nothing half-written."""
    raise KeyboardInterrupt


def run(settings: Settings) -> int:
    """Do what the settings ask for."""
    from rela_bids.cli.environment import make_folder, set_environment

    if settings.train:
        from rela_bids.cli import training as level
    elif settings.level == "group":
        from rela_bids.cli import group as level
    else:
        from rela_bids.cli import participant as level
    set_environment(settings.work_dir, settings.resources.omp_nthreads)
    if settings.dry_run:
        return level.plan_only(settings)
    # Where /tmp cannot be written, this is in the work folder, and torch's import looks for it.
    make_folder(Path(os.environ["TMPDIR"]))
    return level.run_level(settings)


def _report_bug(settings: Settings | None) -> int:
    text = traceback.format_exc()
    place = "above"
    if settings is not None:
        from rela_bids.atomic import write_text

        try:
            place = f"in {write_text(settings.output_dir / 'logs' / 'bug.txt', text)}"
        except RelaBidsError:
            print(text, file=sys.stderr)
    else:
        print(text, file=sys.stderr)
    last = text.strip().splitlines()[-1]
    print(
        f"rela_bids: this is a bug of rela_bids ({last}): please report it with the text {place}",
        file=sys.stderr,
    )
    return ExitCode.BUG


if __name__ == "__main__":
    sys.exit(main())
