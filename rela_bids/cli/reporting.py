"""Sessions' summaries and people's reports, written as sessions end."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import product
from pathlib import Path

from rela_bids.atlases import Atlas
from rela_bids.bids.derivatives import AGREEMENT, MEASURED, MEASURED_SUVR, SYNTH_SUVR, Derivatives
from rela_bids.bids.metadata import read_json_object
from rela_bids.bids.query import Session
from rela_bids.exceptions import RelaBidsError
from rela_bids.likeness import Likeness, unlike
from rela_bids.regional_table import read_rows
from rela_bids.reports.regional import composite_of, main_regions
from rela_bids.reports.summary import (
    DONE,
    FAILED,
    LEFT_OUT,
    MeasuredRecord,
    ModelRecord,
    RegionalRecord,
    Results,
    SessionSummary,
    read_measured,
    read_results,
    results_path,
    software_versions,
)
from rela_bids.settings import Settings
from rela_bids.synthesis import SynthesisPlan


class Reports:
    """Writes a session's summary and its person's report.

    Parameters
    ----------
    methods : Markdown with the list of references.
    run : name of this run.
    atlas : whose regions are measured.
    """

    def __init__(
        self,
        settings: Settings,
        plan: SynthesisPlan,
        methods: str,
        run: str,
        atlas: Atlas | None = None,
    ) -> None:
        self._settings, self._plan, self._atlas = settings, plan, atlas
        self._methods, self._run = methods, run
        self._derivatives = Derivatives(settings.output_dir)
        self._versions = software_versions()

    def begin(self, session: Session) -> None:
        """Forget what an earlier run drew: should this one fail, it must not be shown."""
        results_path(self._derivatives.summary(session)).unlink(missing_ok=True)
        for tracer in self._plan.tracers:
            self._derivatives.measured_results(session, tracer).unlink(missing_ok=True)

    def check(self, session: Session) -> None:
        """A session was finished before: its person's report is there, or is written again."""
        if not self._derivatives.report(session.subject).exists():
            self._write_report(session.subject)

    def done(
        self, session: Session, timings: Mapping[str, float], warnings: Sequence[str] = ()
    ) -> None:
        """A session has ended well; `warnings` are on parts that it is done without."""
        self._forget_measured(session)
        self._forget_tables(session)
        self._write(session, DONE, timings=timings, warnings=warnings)

    def failed(self, session: Session, error: str, timings: Mapping[str, float]) -> None:
        """A session has failed."""
        self._write(session, FAILED, error=error, timings=timings)

    def left_out(self, session: Session) -> None:
        """A session was not processed."""
        self._write(session, LEFT_OUT)

    def _write(
        self,
        session: Session,
        status: str,
        *,
        error: str = "",
        timings: Mapping[str, float] | None = None,
        warnings: Sequence[str] = (),
    ) -> None:
        """Write both; what goes wrong in that is said and ends nothing, the images being there."""
        try:
            self._write_summary(session, status, error, timings or {}, warnings)
            self._write_report(session.subject)
        except Exception as problem:
            print(f"{session.label}  no report: {problem}", file=sys.stderr, flush=True)

    def _write_summary(
        self,
        session: Session,
        status: str,
        error: str,
        timings: Mapping[str, float],
        warnings: Sequence[str],
    ) -> None:
        from rela_bids.atomic import write_json

        path = self._derivatives.summary(session)
        left = results_path(path)
        results = read_results(left) if left.exists() else None
        flags = warnings_of(session, self._plan, results) if status == DONE else []
        for line in flags:
            print(f"{session.label}  WARNING: {line}", file=sys.stderr, flush=True)
        measured = tuple(self._measured(session)) if status == DONE else ()
        summary = SessionSummary(
            subject=session.subject,
            session=session.session,
            status=status,
            model=model_record(self._plan),
            error=error,
            inputs=self._inputs(session),
            left_out=session.left_out,
            warnings=(*flags, *warnings),
            results=results,
            regional=tuple(self._regional(session, measured)) if status == DONE else (),
            measured=measured,
            timings={step: round(seconds, 2) for step, seconds in timings.items()},
            versions=self._versions,
            methods=self._methods,
            run=self._run,
        )
        write_json(path, summary.to_json())

    def _forget_measured(self, session: Session) -> None:
        """Remove what an earlier run measured and this one could not: it is of other images."""
        for tracer in self._plan.tracers:
            if self._derivatives.measured_results(session, tracer).exists():
                continue
            stale = [(MEASURED, None), (AGREEMENT, None)]
            stale += [(MEASURED_SUVR, self._atlas.label)] if self._atlas else []
            for (kind, atlas), extension in product(stale, (None, ".json")):
                path = self._derivatives.path(
                    session, kind, tracer=tracer, atlas=atlas, extension=extension
                )
                with suppress(OSError):
                    path.unlink()

    def _forget_tables(self, session: Session) -> None:
        """Remove tables of synthetic images, by other atlases, that are no longer there."""
        now = {
            "SHA256": self._plan.sha256,
            "RandomSeed": self._plan.random_seed,
            "SamplingSteps": self._plan.sampling_steps,
            "Samples": self._plan.n_samples,
        }
        for tracer in self._plan.tracers:
            any_atlas = self._derivatives.path(
                session, SYNTH_SUVR, tracer=tracer, atlas="*", extension=".json"
            )
            for path in any_atlas.parent.glob(any_atlas.name):
                with suppress(OSError, RelaBidsError):
                    sidecar = read_json_object(path)
                    made = {**sidecar, "SHA256": sidecar.get("Model", {}).get("SHA256")}
                    if any(made.get(key) != value for key, value in now.items()):
                        path.with_suffix(".tsv").unlink(missing_ok=True)
                        path.unlink()

    def _measured(self, session: Session) -> Iterator[MeasuredRecord]:
        for tracer in self._plan.tracers:
            path = self._derivatives.measured_results(session, tracer)
            if path.exists():
                yield read_measured(path)

    def _regional(
        self, session: Session, measured: Sequence[MeasuredRecord]
    ) -> Iterator[RegionalRecord]:
        if self._atlas is None:
            return
        seen = {record.tracer for record in measured}
        for label, tracer in self._plan.tracers.items():
            paths = [
                self._derivatives.path(session, kind, tracer=label, atlas=self._atlas.label)
                for kind in (SYNTH_SUVR, MEASURED_SUVR)
            ]
            rows = read_rows(paths[0])
            real = read_rows(paths[1]) if label in seen else []
            composite = composite_of(rows)
            beside = composite_of(real)
            yield RegionalRecord(
                tracer=label,
                atlas=self._atlas.label,
                file=paths[0].relative_to(self._settings.output_dir).as_posix(),
                regions=tuple(main_regions(rows, real)),
                composite=composite
                and {**asdict(composite), "measured": beside and asdict(beside)},
                formula=tracer.conversion.formula if tracer.conversion else "",
            )

    def _write_report(self, subject: str) -> None:
        """Write the report; again, if another job has added a session meanwhile."""
        from rela_bids.reports.subject import write_report

        before: dict[Path, int] = {}
        while (now := self._summaries(subject)) != before:
            write_report(self._derivatives.report(subject), subject, list(now))
            before = now

    def _summaries(self, subject: str) -> dict[Path, int]:
        """Summaries of a person and when each was written."""
        return {path: path.stat().st_mtime_ns for path in self._derivatives.summaries(subject)}

    def _inputs(self, session: Session) -> dict[str, str]:
        given = {"T1w": session.t1w, "FLAIR": session.flair}
        return {
            modality: path.relative_to(self._settings.bids_dir).as_posix()
            for modality, path in given.items()
            if path is not None
        }


def model_record(plan: SynthesisPlan) -> ModelRecord:
    """The part of the plan that a report tells."""
    return ModelRecord(
        name=plan.name,
        sha256=plan.sha256,
        trained_on=plan.trained_on,
        simulated=plan.simulated,
        preset=plan.config.preset,
        sampling_steps=plan.sampling_steps,
        n_samples=plan.n_samples,
        random_seed=plan.random_seed,
    )


def warnings_of(session: Session, plan: SynthesisPlan, results: Results | None) -> list[str]:
    """What a reader of a finished session's report must know before using its images."""
    lines = []
    quality = results.mask_quality if results else {}
    if quality.get("verdict", "ok") != "ok":
        lines.append(f"The brain mask is doubtful: {quality['reason']}.")
    if "flair" in plan.config.inputs and session.flair is None:
        lines.append("There is no FLAIR: PET was predicted from the T1w alone, which is less.")
    if results and results.likeness:
        lines += unlike(Likeness(**results.likeness))
    if plan.config.intensity == "minmax":
        lines.append(
            "The model does not keep SUVR: its scale was restored by the reference region."
        )
    if plan.n_samples == 1:
        lines.append("There is one sample only, and so no uncertainty.")
    return lines
