"""The page of a trained model: what it says, what it shows, and that nothing gets out of hand."""

import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from rela_bids.held_out import COLUMNS, HeldOut, ranked
from rela_bids.model.budget import TrainSettings
from rela_bids.model.dataset import Example, read_manifest, write_example
from rela_bids.model.presets import PRESETS
from rela_bids.model_card import NOT_FOR, model_card, score_table, verdicts_of
from rela_bids.reports.comparison import DIFFERENCE_COLOURS, held_out_figure
from rela_bids.reports.page import data_uri
from rela_bids.reports.plots import curve_plot, scores_plot
from rela_bids.reports.training import write_training_report
from rela_bids.tracers import TRACERS
from rela_bids.training import TrainedModel, TrainingPlan, train_model
from rela_bids.volumes import Grid

SHAPE = (24, 32, 24)
GRID = Grid.about((0, -18, 5), SHAPE, 6.0)
PIB, TAU = "11CPIB", "18FAV1451"
EVIL = "<script>alert('x')</script>"
COUNTS = {"train": 8, "validation": 0, "test": 6}
CURVE = (
    "step\tepoch\tseconds\tlearning_rate\tdenoiser_l1\tdiscriminator_r1\tpsnr_11CPIB\t"
    "mean_pet_psnr_11CPIB\n"
    "10\t1\t5\t0.001\t0.2\tn/a\tn/a\tn/a\n"
    "20\t2\t9\t0.001\t0.1\t0.5\t21.5\t20.1\n"
)


def row(person: str, tracer: str, psnr: float, mean_pet: float, session: str = "n/a") -> dict:
    values = (person, session, tracer, psnr, 0.7, 0.2, "n/a", mean_pet, 0.6, 0.3)
    return dict(zip(COLUMNS, values, strict=True))


def case(scores: dict, rank: str = "best") -> HeldOut:
    """A head whose measured PET is 2 on the left and 1 on the right; synthetic PET is 1.5."""
    mask = np.zeros(SHAPE, bool)
    mask[4:-4, 4:-4, 4:-4] = True
    x = np.indices(SHAPE)[0]
    t1w = (np.random.default_rng(0).uniform(1, 2, SHAPE) * mask).astype(np.float32)
    measured = (np.where(x < SHAPE[0] / 2, 2.0, 1.0) * mask).astype(np.float32)
    return HeldOut(
        rank, scores, mask, t1w, measured, np.float32(1.5) * mask, np.float32(0.1) * mask
    )


def trained(rows: list[dict], **changes: object) -> TrainedModel:
    plan = TrainingPlan(
        name="tiny",
        config=replace(PRESETS["fast"], grid=GRID),
        tracers={label: TRACERS[label] for label in (PIB, TAU)},
        settings=TrainSettings(max_steps=20),
        trained_on="PET and MRI of 14 people",
    )
    provenance = {
        "people": {PIB: COUNTS, TAU: COUNTS},
        "sessions": {PIB: COUNTS, TAU: COUNTS | {"train": 11}},
        "data_sha256": "da" * 32,
        "steps": 20,
        "device": "cpu (x86_64)",
        "versions": {"torch": "9.9"},
    }
    shown = [case(rows[index], rank) for index, rank in ranked(rows)]
    made = TrainedModel(
        replace(plan, **changes), provenance, "ab" * 32, 71.6, "test", "test", rows, shown
    )
    return made


ROWS = [row(f"sub-{n:02d}", PIB, 24.0 + n, 20.0 + n) for n in range(6)] + [
    row(f"sub-{n:02d}", TAU, 20.0, 20.5 + n) for n in range(6)
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "training.tsv").write_text(CURVE)
    return tmp_path


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    (folder / "training.tsv").write_text(CURVE)
    return write_training_report(folder, trained(ROWS))


class Page(HTMLParser):
    """Elements with their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def every(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(folder: Path, model: TrainedModel) -> Page:
    return Page(write_training_report(folder, model).read_text())


def test_the_page_says_what_the_card_says(written):
    model = trained(ROWS)
    text = " ".join(Page(written.read_text()).text.split())
    for line in NOT_FOR.replace("\n  ", " ").splitlines():
        assert line.removeprefix("- ") in text
    for said in ("PET and MRI of 14 people", "ab" * 32, "da" * 32, "torch", "9.9", "72 s on cpu"):
        assert said in text
        assert said in model_card(model)
    assert "8 (11 sessions)" in text
    assert "grid.voxel_size" in text


def test_all_is_in_one_file_that_fetches_nothing_and_runs_nothing(written):
    page = Page(written.read_text())
    images = page.every("img")
    assert len(images) == 2 + 2 * 3
    for image in images:
        assert image["src"].startswith("data:image/")
        assert len(image["alt"]) > 20
    assert not page.every("script")
    assert all(link["href"] in ("data:,",) for link in page.every("link"))
    assert all(anchor["href"].startswith("#") for anchor in page.every("a"))
    identifiers = [a["id"] for _, a in page.elements if "id" in a]
    assert {a["href"][1:] for a in page.every("a")} <= set(identifiers)
    assert len(identifiers) == len(set(identifiers))


def test_headings_go_down_one_level_at_a_time(written):
    levels = [int(t[1]) for t, _ in Page(written.read_text()).elements if re.match("h[1-6]", t)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_words_of_others_stay_words(folder):
    tracers = {PIB: replace(TRACERS[PIB], name=EVIL), TAU: TRACERS[TAU]}
    model = trained(ROWS, name=f"a {EVIL}", trained_on=f'people "&" {EVIL} | b', tracers=tracers)
    page = page_of(folder, model)
    assert not page.every("script")
    assert f'people "&" {EVIL} | b' in page.text
    assert "<script" not in model_card(model)


def test_every_picture_of_the_page_is_a_file_too(written):
    page, folder = Page(written.read_text()), written.parent
    files = {
        data_uri(path.read_bytes(), "svg+xml" if path.suffix == ".svg" else "webp")
        for path in (folder / "figures").iterdir()
    }
    assert {image["src"] for image in page.every("img")} == files
    assert (folder / "figures" / "sub-05_trc-11CPIB_desc-heldout_pet.webp").exists()


def test_best_median_and_worst_are_shown_and_nobody_twice():
    rows = [row(f"sub-{n}", PIB, psnr, 20.0) for n, psnr in enumerate((22.0, 25.0, 21.0, 24.0))]
    assert ranked(rows) == [(1, "best"), (3, "median"), (2, "worst")]
    assert ranked(rows[:2]) == [(1, "best"), (0, "worst")]
    assert ranked(rows[:1]) == [(0, "only")]


def test_it_is_said_plainly_where_the_mean_pet_is_not_beaten(folder):
    few = [row(f"sub-{n}", TAU, 25.0, 20.0) for n in range(2)]
    better, worse = verdicts_of(trained(ROWS))
    assert better.better
    assert "beats the mean PET. PSNR +4.00" in better.text
    assert not worse.better
    assert "does not beat the mean PET. PSNR -3.00" in worse.text
    nobody, doubtful = verdicts_of(trained(few))
    assert 'not scored, nobody in "test" has it' in nobody.text
    assert "not shown to beat the mean PET" in doubtful.text
    for text in (page_of(folder, trained(few)).text, model_card(trained(few))):
        assert nobody.text in text
        assert doubtful.text in text


def test_people_count_once_however_many_sessions_they_have():
    rows = [row("sub-1", PIB, 20.0, 20.0, s) for s in ("ses-a", "ses-b", "ses-c")]
    rows.append(row("sub-2", PIB, 30.0, 20.0))
    line = score_table(trained(rows))[1]
    assert line[1] == "2 (4 sessions)"
    assert line[2].startswith("25.0 [")


def test_pictures_have_left_on_the_left_and_the_colours_of_their_bars():
    scale = TRACERS[PIB].suvr_scale
    image = Image.open(io.BytesIO(held_out_figure(case(ROWS[0]), GRID, scale))).convert("RGB")
    picture = np.asarray(image).astype(int)
    width = (picture.shape[1] - 4 * 16) // 5

    def seen(column: int, part: float) -> np.ndarray:
        """Around a point of the first row of a column."""
        left = column * (width + 16) + round(part * width)
        return picture[130:150, left - 8 : left + 8].reshape(-1, 3).mean(0)

    def colour(name: str, value: float) -> np.ndarray:
        return np.array(colormaps[name](value)[:3]) * 255

    for column, left, right in ((1, 2.0, 1.0), (2, 1.5, 1.5)):
        for part, suvr in ((0.35, left), (0.65, right)):
            np.testing.assert_allclose(seen(column, part), colour("inferno", suvr / scale), atol=12)
    for part, difference in ((0.35, -0.5), (0.65, 0.5)):
        expected = colour(DIFFERENCE_COLOURS, 0.5 + difference / (2 * 0.3 * scale))
        np.testing.assert_allclose(seen(3, part), expected, atol=12)
    np.testing.assert_allclose(seen(4, 0.5), colour("viridis", 0.1 / (0.1 * scale)), atol=12)


def test_plots_are_the_same_bytes_for_the_same_numbers_and_bear_a_training_of_one_step():
    pairs = {"PIB": [(20.0, 21.0), (22.0, 19.0)]}
    assert scores_plot(pairs) == scores_plot(pairs)
    one_row = [{"step": "1", "denoiser_l1": "0.5", f"psnr_{PIB}": "n/a"}]
    assert curve_plot(one_row, [PIB]) == curve_plot(one_row, [PIB])
    assert b"<svg" in curve_plot([], [PIB])
    assert scores_plot(pairs) != scores_plot({"PIB": [(20.0, 21.0), (22.0, 23.0)]})


def test_a_training_ends_with_its_page(tmp_path):
    mask = np.zeros(SHAPE, bool)
    mask[4:-4, 4:-4, 4:-4] = True
    for number in range(6):
        rng = np.random.default_rng(number)
        t1w, pib, tau = (rng.uniform(1, 2, SHAPE).astype(np.float32) * mask for _ in range(3))
        pets = {PIB: pib, TAU: tau} if number % 2 else {PIB: pib}
        for session in ("a", "b")[: 1 + number % 2]:
            write_example(
                tmp_path / "data", Example(f"{number:02d}", session, t1w, None, mask, pets)
            )
    fast = PRESETS["fast"]
    config = replace(
        fast,
        grid=GRID,
        network=replace(fast.network, channels=(8, 16)),
        discriminator=replace(fast.discriminator, channels=4, layers=1),
        diffusion=replace(fast.diffusion, noise_octaves=1),
        n_samples=2,
    )
    plan = TrainingPlan(
        name="tiny",
        config=config,
        tracers={label: TRACERS[label] for label in (PIB, TAU)},
        settings=TrainSettings(max_steps=2, device="cpu", threads=1, log_every=1, validate_every=1),
        trained_on="boxes of noise",
        split={f"{n:02d}": "train" if n < 3 else "test" for n in range(6)},
    )
    manifest = read_manifest(tmp_path / "data")
    folder = train_model(manifest, plan, tmp_path, on_scored=write_training_report)
    page = Page((folder / "report.html").read_text())
    assert "boxes of noise" in page.text
    assert len(list((folder / "figures").glob("*_desc-heldout_pet.webp"))) == 3 + 3
    assert "2 (4 sessions)" in page.text
    assert "The training curve was drawn from the same people" in " ".join(page.text.split())
