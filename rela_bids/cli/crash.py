"""What is written about a step that failed: text that the person who ran the command can use."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rela_bids import __version__
from rela_bids.bids.query import Session
from rela_bids.settings import Settings

if TYPE_CHECKING:
    from nipype.pipeline.engine import Node

# Options of which a command that repeats one session has its own.
_REPLACED = ("--participant-label", "--participant_label", "--session-label", "--session_label")


@dataclass(frozen=True)
class CrashReports:
    """Writes the crash reports of a run.

    Attributes
    ----------
    argv : arguments of the command.
    sessions : by the names of their workflows.
    """

    argv: Sequence[str]
    settings: Settings
    sessions: Mapping[str, Session]

    def write(self, node: "Node", error: str, traceback: str) -> Path | None:
        """Write what there is to say of a node that failed; None where nothing can be written.

        `error` is the message for people. The folder is the node's own, or else the work folder.
        """
        from rela_bids.atomic import write_text
        from rela_bids.exceptions import CannotWriteError

        session = self.sessions[str(node.fullname).split(".")[1]]
        text = "\n".join(self._lines(node, session, error, traceback)) + "\n"
        # Not the same name for two nodes of one session, nor for one node in two runs.
        step = ".".join(str(node.fullname).split(".")[2:])
        name = f"crash_{session.prefix}_{step}.txt"
        for folder in (node.config["execution"]["crashdump_dir"], self.settings.work_dir):
            try:
                return write_text(Path(folder) / name, text)
            except CannotWriteError:
                continue
        return None

    def _lines(self, node: "Node", session: Session, error: str, traceback: str) -> Iterator[str]:
        step = str(node.fullname).split(".", 2)[2]
        yield f"rela_bids {__version__}, {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
        yield f"{session.label} failed at the step {node.name.replace('_', ' ')} ({step})."
        yield from ("", "What went wrong", f"  {error}")
        yield from ("", "Images of the session")
        yield from (f"  {kind:<6} {path}" for kind, path in _images(session, self.settings))
        yield from ("", "Inputs of the step")
        yield from (f"  {name} = {value}" for name, value in self._inputs(node))
        yield from (
            "",
            "To repeat this step (those before it are kept in the work folder)",
            f"  {repeat_command(self.argv, session)}",
            "",
            "For a report of a bug: what Python says",
            "",
            traceback.rstrip(),
        )

    def _inputs(self, node: "Node") -> Iterator[tuple[str, str]]:
        """The inputs that are set, files by their names within BIDS, OUT and the work folder."""
        for name, value in sorted(node.inputs.trait_get().items()):
            if name.startswith("trait") or str(value) == "<undefined>":
                continue
            yield name, self._named(value)

    def _named(self, value: Any) -> str:
        if isinstance(value, list | tuple):
            return "[" + ", ".join(self._named(item) for item in value) + "]"
        roots = {
            "BIDS": self.settings.bids_dir,
            "OUT": self.settings.output_dir,
            "WORK": self.settings.work_dir,
        }
        text = str(value)
        # OUT may lie in BIDS, and the work folder in OUT: the longest root is the one meant.
        for name, root in sorted(roots.items(), key=lambda item: -len(str(item[1]))):
            if text.startswith(f"{root}/"):
                return f"{name}/{text.removeprefix(f'{root}/')}"
        return text if len(text) <= 500 else text[:500] + "..."


def _images(session: Session, settings: Settings) -> Iterator[tuple[str, str]]:
    given = {"T1w": session.t1w, "FLAIR": session.flair}
    given |= {label: path for label, paths in session.pets.items() for path in paths}
    for kind, path in given.items():
        if path is not None:
            yield kind, path.relative_to(settings.bids_dir).as_posix()


def repeat_command(argv: Sequence[str], session: Session) -> str:
    """The command of a run, for one session alone, as a line for a shell.

    >>> repeat_command(["/bids", "/out", "participant", "--nprocs", "4"], Session("01", "1"))
    'rela_bids /bids /out participant --nprocs 4 --participant-label 01 --session-label 1'
    >>> repeat_command(["/b i", "/o", "participant", "--participant-label", "01", "02", "-v"],
    ...     Session("02"))
    "rela_bids '/b i' /o participant -v --participant-label 02"
    """
    kept, dropping = [], False
    for word in argv:
        if word.startswith("-"):
            dropping = word.split("=")[0] in _REPLACED
        if not dropping:
            kept.append(word)
    kept += ["--participant-label", session.subject]
    kept += ["--session-label", session.session] if session.session is not None else []
    return shlex.join(["rela_bids", *kept])
