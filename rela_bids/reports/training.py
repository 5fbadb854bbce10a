"""What a training leaves to look at: figures, and one page with everything in it."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rela_bids import model_card as card
from rela_bids.atomic import write_atomically, write_text
from rela_bids.held_out import HeldOut
from rela_bids.reports.comparison import held_out_figure
from rela_bids.reports.page import data_uri, render_page
from rela_bids.reports.plots import curve_plot, scores_plot
from rela_bids.training import TrainedModel

RANKS = {
    "best": "the best PSNR",
    "median": "the median PSNR",
    "worst": "the worst PSNR",
    "only": "the only one",
}


@dataclass(frozen=True)
class Picture:
    """A figure of the page; `file` is its name in the folder ``figures``."""

    file: str
    content: bytes
    title: str
    caption: str
    alt: str
    tracer: str = ""

    @property
    def address(self) -> str:
        """The address that holds the content."""
        kind = {"svg": "svg+xml"}.get(self.file.rsplit(".", 1)[1], "webp")
        return data_uri(self.content, kind)


def write_training_report(folder: Path, trained: TrainedModel) -> Path:
    """Write ``figures`` and ``report.html`` into a model's folder, where its curve lies.

    For ``rela_bids.training.train_model(..., on_scored=write_training_report)``.

    Raises
    ------
    CannotWriteError
        If the folder cannot be written.
    """
    curve, scores = _curve(folder, trained), _scores(trained)
    cases = list(_cases(trained))
    for picture in (curve, scores, *cases):
        with write_atomically(folder / "figures" / picture.file) as temporary:
            temporary.write_bytes(picture.content)
    return write_text(folder / "report.html", render_training(trained, curve, scores, cases))


def render_training(
    trained: TrainedModel, curve: Picture, scores: Picture, cases: Sequence[Picture]
) -> str:
    """The HTML of the page."""
    plan = trained.plan
    return render_page(
        "training.html",
        title=f"The model {plan.name}",
        card=card,
        plan=plan,
        made_from=card.made_from(trained),
        judged=trained.judged,
        people=card.people_table(trained),
        verdicts=card.verdicts_of(trained),
        score_table=card.score_table(trained),
        watched_too=card.watched_too(trained),
        settings=card.settings_of(trained),
        versions=card.versions_of(trained),
        configuration=card.whole_configuration(asdict(plan.config)),
        curve=curve,
        scores=scores,
        cases=cases,
    )


def _curve(folder: Path, trained: TrainedModel) -> Picture:
    from rela_bids.model.curve import CURVE, read_curve

    rows = read_curve(folder / CURVE)
    # The trainer knows no reference region, by which these models are brought back to SUVR.
    minmax = trained.plan.config.intensity == "minmax"
    apart = " They are not to be compared with the table: SUVR is a guess here." if minmax else ""
    return Picture(
        "curve.svg",
        curve_plot(rows, list(trained.plan.tracers)),
        "Training curve",
        "Above, the losses, means since the row before. Below, PSNR of a few held-out people from "
        "one sample of few steps (solid), and of the mean PET for the same people (dotted). All "
        f"numbers are in {CURVE}.{apart}",
        "Two plots against steps of training: the losses, and the PSNR of held-out people for each "
        f"tracer beside that of the mean PET. The numbers are in {CURVE}.",
    )


def _scores(trained: TrainedModel) -> Picture:
    pairs = {}
    for label, tracer in trained.plan.tracers.items():
        rows = [row for row in trained.scores if row["tracer"] == label]
        if rows:
            both = (card.over_people(rows, column) for column in ("psnr_mean_pet", "psnr"))
            pairs[f"{tracer.name} ({label})"] = list(zip(*both, strict=True))
    return Picture(
        "psnr.svg",
        scores_plot(pairs),
        "Every held-out person",
        "A point is a person, whose sessions are averaged. Above the line, synthetic PET is nearer "
        "to the measured PET than the mean PET is.",
        "For each tracer, PSNR of synthetic PET against PSNR of the mean PET, a point for each "
        "person. The numbers are in metrics.tsv.",
    )


def _cases(trained: TrainedModel) -> Iterator[Picture]:
    for case in trained.held_out:
        label = str(case.scores["tracer"])
        tracer = trained.plan.tracers[label]
        yield Picture(
            _file_name(case),
            held_out_figure(case, trained.plan.config.grid, tracer.suvr_scale),
            f"{_who(case)}: {RANKS[case.rank]}",
            f"{_numbers(case)} The person's left is on the left.",
            f"Slices of {_who(case)}: T1w, measured and synthetic {tracer.name} PET on one scale "
            f"from 0 to {tracer.suvr_scale:g} SUVR, their difference, and the standard deviation. "
            f"{_numbers(case)}",
            label,
        )


def _file_name(case: HeldOut) -> str:
    entities = [case.scores[key] for key in ("participant_id", "session_id")]
    names = [str(entity) for entity in entities if entity != "n/a"]
    return "_".join([*names, f"trc-{case.scores['tracer']}", "desc-heldout", "pet.webp"])


def _who(case: HeldOut) -> str:
    session = case.scores["session_id"]
    return str(case.scores["participant_id"]) + ("" if session == "n/a" else f", {session}")


def _numbers(case: HeldOut) -> str:
    scores = case.scores
    return (
        f"PSNR {scores['psnr']:.1f} dB (mean PET: {scores['psnr_mean_pet']:.1f} dB), "
        f"SSIM {scores['ssim']:.2f} (mean PET: {scores['ssim_mean_pet']:.2f}), "
        f"MAE {scores['mae_suvr']:.2f} SUVR (mean PET: {scores['mae_suvr_mean_pet']:.2f})."
    )
