"""What a finished session was made of, so that it is not done again while nothing has changed.

A session's record is written after everything else and removed before the session is done anew:
where there is one, the session is whole. It holds the SHA-256 of the inputs, the settings that
results depend on, the model, the version, and the outputs with their sizes. Inputs are compared by
content, since times and sizes say little of annexed and copied files; outputs by name and size,
since each was written whole or not at all.
"""

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rela_bids import __version__
from rela_bids.atomic import write_json
from rela_bids.bids.derivatives import Derivatives
from rela_bids.bids.finished import SOURCES, hashes, made_with, sources
from rela_bids.bids.given import find_mask, find_pets
from rela_bids.bids.metadata import read_json_object, read_metadata
from rela_bids.bids.query import Session
from rela_bids.exceptions import CannotWriteError, RelaBidsError
from rela_bids.settings import Settings, to_dict

if TYPE_CHECKING:
    from rela_bids.synthesis import SynthesisPlan

# Settings that say what is done or how, and change no result; all others count. Of several
# sessions, each has a record of its own, and inputs are known by their content.
WITHOUT_EFFECT = frozenset(
    {
        "bids_dir",
        "output_dir",
        "work_dir",
        "level",
        "selection",
        "derivatives",
        "train",
        "training",
        "tracer_files",
        "resources",
        "skip_bids_validation",
        "bids_database_dir",
        "plugin_file",
        "clean_workdir",
        "resource_monitor",
        "write_graph",
        "stop_on_first_crash",
        "dry_run",
        "verbose",
        "command",
    }
)

# Settings of the synthesis that `model_settings` has, and the device, which decides on last bits.
OF_THE_MODEL = ("model", "n_samples", "sampling_steps", "random_seed", "device")


def inputs_of(session: Session, settings: Settings, tracers: Iterable[str]) -> dict[str, Path]:
    """The images that a session's results are made from, by what they are."""
    found = sources(session, find_mask(settings.derivatives, session))
    for label in tracers:
        raw = session.pets.get(label, ())
        paths = (find_pets(settings.derivatives, session, label) or raw) if raw else ()
        found |= {f"{path.name}": path for path in paths}
    return found


def relevant_settings(settings: Settings) -> dict[str, Any]:
    """The settings that results depend on, the model's own apart; files by their content."""
    given = to_dict(settings)
    chosen = {name: value for name, value in given.items() if name not in WITHOUT_EFFECT}
    chosen["synthesis"] = {
        name: value for name, value in chosen["synthesis"].items() if name not in OF_THE_MODEL
    }
    chosen["made_with"] = made_with(settings.anatomy)
    # As JSON has it, so that what was written can be compared with what is.
    plain: dict[str, Any] = json.loads(json.dumps(_by_content(chosen)))
    return plain


def _by_content(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _by_content(item) for name, item in value.items()}
    # os.path, since Path.is_file raises on a text that is too long for a name.
    if isinstance(value, str) and os.path.isfile(value):  # noqa: PTH113
        return f"{value} ({hashes({'file': value})['file'][:16]})"
    return value


def model_settings(plan: "SynthesisPlan") -> dict[str, Any]:
    """The model and how it is sampled; the device is not among it."""
    return {
        "sha256": plan.sha256,
        "n_samples": plan.n_samples,
        "sampling_steps": plan.sampling_steps,
        "random_seed": plan.random_seed,
    }


class Records:
    """The records of a run's sessions."""

    def __init__(self, settings: Settings, plan: "SynthesisPlan") -> None:
        self._settings, self._plan = settings, plan
        self._derivatives = Derivatives(settings.output_dir)
        self._relevant = relevant_settings(settings)
        self._begun: dict[str, dict[str, Any]] = {}

    def why_again(self, session: Session) -> str | None:
        """What has changed since a session was finished, in words.

        Empty if nothing has: the session is whole. None if it never was finished.
        """
        record = self._read(session)
        if record is None:
            return None
        changes = [*self._changes(record), *self._lost(record)]
        # Hashing reads whole images, and so comes last.
        return "; ".join(changes or self._changed_inputs(session, record))

    def begin(self, session: Session) -> None:
        """A session is about to be done: forget its record, and note what its inputs are like.

        Raises
        ------
        CannotWriteError
            If the record cannot be removed.
        """
        path = self._derivatives.record(session)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise CannotWriteError(
                f"{path} cannot be removed ({error.strerror}): mend the permissions of its folder"
            ) from error
        self._begun[session.label] = self._look(session)

    def finish(self, session: Session, outputs: Iterable[Path]) -> bool:
        """Write the record of a session whose outputs are all there; returns whether it was.

        There is none if an output is missing, or an input was written to meanwhile.

        Raises
        ------
        CannotWriteError
            If the record cannot be written.
        """
        root, sizes = self._settings.output_dir, {}
        try:
            for path in sorted(outputs):
                sizes[path.relative_to(root).as_posix()] = path.stat().st_size
            inputs = self._hashes(session)
        except OSError:
            return False
        if self._look(session) != self._begun.get(session.label):
            return False
        content = {
            "Version": __version__,
            "Inputs": inputs,
            "Settings": self._relevant,
            "Model": model_settings(self._plan),
            "Tracers": list(self._plan.tracers),
            "Outputs": sizes,
        }
        write_json(self._derivatives.record(session), content)
        return True

    def _inputs(self, session: Session) -> dict[str, Path]:
        return inputs_of(session, self._settings, self._plan.tracers)

    def _look(self, session: Session) -> dict[str, Any]:
        """Size and time of each input, which need no reading."""
        seen = {}
        for kind, path in self._inputs(session).items():
            with suppress(OSError):
                status = path.stat()
                seen[kind] = (status.st_size, status.st_mtime_ns)
        return seen

    def _hashes(self, session: Session) -> dict[str, str]:
        """SHA-256 of each input, and of the metadata of PET, which decide on its frames."""
        images = self._inputs(session)
        found = hashes(images)
        for kind, path in images.items():
            if kind not in SOURCES and path.is_relative_to(self._settings.bids_dir):
                metadata = read_metadata(path, self._settings.bids_dir)
                text = json.dumps(metadata, sort_keys=True)
                found[f"the metadata of {kind}"] = sha256(text.encode()).hexdigest()
        return found

    def _read(self, session: Session) -> dict[str, Any] | None:
        try:
            record = read_json_object(self._derivatives.record(session))
            sizes = record["Outputs"].values()
        except (RelaBidsError, KeyError, AttributeError):
            return None
        return record if sizes else None

    def _changes(self, record: Mapping[str, Any]) -> list[str]:
        changes = []
        if record.get("Version") != __version__:
            changes.append(f"rela_bids {record.get('Version')} is now {__version__}")
        before, now = record.get("Model", {}), model_settings(self._plan)
        if before.get("sha256") != now["sha256"]:
            changes.append(f"the model is another ({self._plan.name})")
        before, now = before | record.get("Settings", {}), now | self._relevant
        changes += [
            f"{name.replace('_', ' ')} was {_short(before.get(name))}, is {_short(now.get(name))}"
            for name in sorted({*before, *now} - {"sha256"})
            if before.get(name) != now.get(name)
        ]
        new = [label for label in self._plan.tracers if label not in record.get("Tracers", [])]
        return changes + ([f"{', '.join(new)} was not among its tracers"] if new else [])

    def _lost(self, record: Mapping[str, Any]) -> list[str]:
        for name, size in record["Outputs"].items():
            path = self._settings.output_dir / name
            try:
                if path.stat().st_size != size:
                    return [f"{name} in OUT was changed"]
            except OSError:
                return [f"{name} is no longer in OUT"]
        return []

    def _changed_inputs(self, session: Session, record: Mapping[str, Any]) -> list[str]:
        before = record.get("Inputs", {})
        try:
            now = self._hashes(session)
        except (RelaBidsError, OSError) as error:
            return [f"its inputs cannot be read ({error})"]
        return [
            f"{kind} {'is new' if kind not in before else 'changed' if kind in now else 'is gone'}"
            for kind in sorted({*before, *now})
            if before.get(kind) != now.get(kind)
        ]


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) < 80 else text[:77] + "..."
