"""How the sessions of an OUT ended: what was flagged, failed or left out."""

from dataclasses import dataclass
from pathlib import Path

from rela_bids.bids.derivatives import Derivatives
from rela_bids.bids.metadata import read_json_object
from rela_bids.bids.validation import list_folders
from rela_bids.exceptions import RelaBidsError
from rela_bids.settings import Selection

DONE = "done"


@dataclass(frozen=True)
class Outcome:
    """One session, as its summary has it; labels without prefix.

    `error` says why it failed or was left out, `warnings` are for readers of its numbers.
    """

    subject: str
    session: str | None
    status: str
    error: str
    warnings: tuple[str, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        """What is to be known of it; nothing where all went well."""
        ended = () if self.status == DONE else (f"{self.status}: {self.error}".removesuffix(": "),)
        return (*ended, *self.warnings)


def read_outcomes(root: Path, selection: Selection) -> list[Outcome]:
    """The sessions that have a summary; one that cannot be read is passed over."""
    derivatives = Derivatives(root)
    people = [name.removeprefix("sub-") for name in list_folders(root) if name.startswith("sub-")]
    found = []
    for subject in people:
        if selection.participants and subject not in selection.participants:
            continue
        for path in derivatives.summaries(subject):
            try:
                summary = read_json_object(path)
            except RelaBidsError:
                continue
            outcome = Outcome(
                subject=subject,
                session=summary.get("session"),
                status=str(summary.get("status")),
                error=str(summary.get("error") or "; ".join(summary.get("left_out") or ())),
                warnings=tuple(map(str, summary.get("warnings") or ())),
            )
            if not selection.sessions or outcome.session in selection.sessions:
                found.append(outcome)
    return found
