import base64
import io
import json
import re
from dataclasses import asdict, replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image
from scipy import ndimage

from rela_bids import templates
from rela_bids.bids.derivatives import Derivatives
from rela_bids.bids.query import Session
from rela_bids.cli.reporting import Reports
from rela_bids.exceptions import BadDataError
from rela_bids.interfaces.reporting import SaveFigures
from rela_bids.likeness import Likeness
from rela_bids.model.presets import PRESETS
from rela_bids.reports import figures, viewer
from rela_bids.reports.page import markdown
from rela_bids.reports.session import SessionImages, draw_session
from rela_bids.reports.subject import render_report
from rela_bids.reports.summary import (
    DONE,
    FAILED,
    ModelRecord,
    Results,
    SessionSummary,
    read_summary,
    results_path,
)
from rela_bids.settings import Settings
from rela_bids.synthesis import SynthesisPlan
from rela_bids.tracers import TRACERS
from rela_bids.transforms import isotropic, write_affine
from workflows.reporting import init_session_report_wf

MODEL = ModelRecord("phantom", "ab" * 32, "200 simulated heads", True, "fast", 10, 4, 42)
QUALITY = {
    "volume_ml": 1400.0,
    "template_overlap": 0.95,
    "bright_edge": 0.3,
    "verdict": "ok",
    "reason": "",
}
LABELS = ("18FAV45", "18FFDG")


def decoded(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGBA")).astype(int)


def as_lps(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """The same head, stored as many scanners store it."""
    target = nib.orientations.axcodes2ornt("LPS")
    here = nib.orientations.io_orientation(image.affine)
    return image.as_reoriented(nib.orientations.ornt_transform(here, target))


@pytest.fixture(scope="module")
def head(tmp_path_factory) -> SessionImages:
    """The template's brain at 3 mm, stored as LPS, with PET that is hotter on its left."""
    folder = tmp_path_factory.mktemp("head")
    brain = as_lps(isotropic(nib.load(templates.brain_t1w()), 3.0))
    data = np.asarray(brain.dataobj, dtype=np.float32)
    mask = ndimage.binary_fill_holes(data > 0)
    x = np.indices(mask.shape)[0] * brain.affine[0, 0] + brain.affine[0, 3]
    pet = np.where(mask, np.where(x < 0, 2.0, 1.0), 0).astype(np.float32)
    paths = {}
    for name, volume in {
        "t1w": data,
        "mask": mask.astype(np.uint8),
        "mean": pet,
        "std": 0.1 * pet,
    }.items():
        paths[name] = folder / f"{name}.nii.gz"
        nib.save(nib.Nifti1Image(volume, brain.affine), paths[name])
    return SessionImages(
        t1w=paths["t1w"],
        brain_mask=paths["mask"],
        flair=paths["t1w"],
        to_template=np.eye(4),
        template=templates.brain_t1w(),
        tracers=[TRACERS[label] for label in LABELS],
        mean=[paths["mean"]] * 2,
        std=[paths["std"]] * 2,
    )


@pytest.fixture(scope="module")
def drawn(head) -> tuple[Results, dict[str, bytes]]:
    return draw_session(head, QUALITY, "sub-01_ses-1")


def summary(**changes) -> SessionSummary:
    return replace(SessionSummary("01", "1", DONE, MODEL), **changes)


def page(tmp_path: Path, *summaries: SessionSummary, problems=()) -> str:
    return render_report("01", [(item, tmp_path) for item in summaries], problems)


class Outline(HTMLParser):
    """Headings, and elements with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]


def test_a_volume_is_turned_to_right_front_and_top(head):
    mask = nib.load(head.brain_mask)
    box = figures.brain_box(mask, 4.0)
    pet = figures.upright(nib.load(head.mean[0]), box)
    half = pet.shape[0] // 2
    assert nib.aff2axcodes(mask.affine) == ("L", "P", "S")
    assert pet[: half - 3].max() == pytest.approx(2.0, abs=0.01)
    assert pet[half + 4 :].max() == pytest.approx(1.0, abs=0.01)


def test_an_empty_mask_is_named(head):
    mask = nib.load(head.brain_mask)
    empty = nib.Nifti1Image(np.zeros(mask.shape, np.uint8), mask.affine)
    with pytest.raises(BadDataError, match="brain mask is empty"):
        figures.brain_box(empty, 4.0)


def test_the_left_of_the_person_is_on_the_left_of_the_picture():
    mask = np.zeros((40, 40, 40), np.float32)
    mask[4:36, 4:36, 4:36] = 1.0
    pet = np.where(np.arange(40)[:, None, None] < 20, 2.0, 0.2) * mask
    picture = decoded(figures.pet_figure(pet, mask, mask, 2.0, "inferno"))[..., :3].sum(-1)
    row = round(40 * figures.ENLARGED) + figures.GAP
    for plane in range(2):
        first = picture[plane * row + 28 : plane * row + 50]
        assert first[:, 10:26].mean() > first[:, 34:50].mean() + 200


def test_sides_are_lettered_left_and_right():
    mask = np.ones((40, 40, 40), np.float32)
    ink = decoded(figures.mosaic(np.zeros_like(mask), mask))[..., 0] > 128
    row = round(40 * figures.ENLARGED) + figures.GAP

    def foot_heavy(letter: np.ndarray) -> bool:
        heights = np.flatnonzero(letter.any(axis=1))
        return letter[heights[0] : heights[-1] + 1].sum(axis=1).argmax() > len(heights) / 2

    for plane in range(2):
        letters = ink[plane * row : plane * row + 30]
        assert foot_heavy(letters[:, :25]), "an L has its bar at the foot"
        assert not foot_heavy(letters[:, 35:60]), "an R has none there"


def test_colours_mean_the_same_suvr_whatever_the_image_holds():
    mask = np.ones((40, 40, 40), np.float32)
    low = np.full_like(mask, 1.0)
    high = low.copy()
    high[:, :, 30:] = 1.9
    first, second = (
        decoded(figures.pet_figure(pet, mask, mask, 2.0, "inferno"))[20:40, 20:40, :3]
        for pet in (low, high)
    )
    assert abs(first - second).max() < 8


def test_a_pet_picture_has_the_scale_of_its_colours_beside_it():
    mask = np.ones((40, 40, 40), np.float32)
    plain = decoded(figures.mosaic(mask, mask))
    picture = decoded(figures.pet_figure(mask, mask, mask, 2.0, "inferno"))[..., :3]
    bar = picture[:, plain.shape[1] + 20 : plain.shape[1] + 34].mean(axis=1)
    for part, place in ((0.95, 0.05), (0.5, 0.5), (0.05, 0.95)):
        y = round(60 + place * (len(bar) - 100))
        expected = np.array(colormaps["inferno"](part)[:3]) * 255
        assert abs(bar[y] - expected).max() < 25


def test_front_and_top_are_up_in_pictures():
    mask = np.ones((40, 40, 40), np.float32)
    axial, coronal = (
        decoded(figures.mosaic(np.broadcast_to(shades, mask.shape), mask))[..., 0]
        for shades in (
            np.linspace(0, 1, 40)[None, :, None],
            np.linspace(0, 1, 40)[None, None, :],
        )
    )
    row = round(40 * figures.ENLARGED) + figures.GAP
    assert axial[5, 30] > axial[50, 30] + 100
    assert coronal[row + 5, 30] > coronal[row + 50, 30] + 100


def test_the_mask_picture_has_a_red_edge_and_no_red_without_it(head):
    mask_image = nib.load(head.brain_mask)
    box = figures.brain_box(mask_image, 10.0)
    t1w, mask = (figures.upright(image, box) for image in (nib.load(head.t1w), mask_image))

    def red(content: bytes) -> int:
        pixels = decoded(content)
        return int((pixels[..., 0] - pixels[..., 1] > 90).sum())

    assert red(figures.mask_figure(t1w, mask)) > 3000
    assert red(figures.mosaic(figures.grey(t1w, mask), mask)) == 0


def test_pictures_are_small_and_every_file_is_recorded(drawn):
    results, content = drawn
    recorded = {figure.file for figure in results.figures}
    recorded |= {results.viewer.t1w} | {layer.file for layer in results.viewer.layers}
    assert recorded == set(content)
    assert max(map(len, content.values())) < 300_000
    assert [f.section for f in results.figures] == ["mask", *["registration"] * 2, *["pet"] * 4]
    assert all(figure.alt and figure.caption for figure in results.figures)


def test_brain_means_are_those_of_the_images(head, drawn):
    inside = np.asarray(nib.load(head.brain_mask).dataobj) > 0
    mean = np.asarray(nib.load(head.mean[0]).dataobj)[inside].mean()
    first = drawn[0].tracers[0]
    assert first.mean_suvr == pytest.approx(mean, abs=1e-3)
    assert first.mean_std == pytest.approx(0.1 * mean, abs=1e-3)


@pytest.mark.slow
def test_without_flair_and_with_one_sample_there_are_fewer_pictures(head):
    images = replace(head, flair=None, std=[], tracers=head.tracers[:1], mean=head.mean[:1])
    results, _ = draw_session(images, QUALITY, "sub-01")
    assert [f.section for f in results.figures] == ["mask", "registration", "pet"]
    assert results.tracers[0].mean_std is None


def test_sheets_hold_the_slices_from_below_with_front_up():
    volume = np.zeros((6, 8, 25), np.float32)
    volume[:, 6:, 22:24] = 1.0
    slices, width, height = viewer.sheet_size(volume)
    sheet = decoded(viewer.t1w_sheet(volume))[..., 0]
    assert (slices, width, height) == (12, 6, 8)
    assert sheet.shape == (2 * height, viewer.COLUMNS * width)
    eleventh = sheet[height:, width : 2 * width]
    assert eleventh[:2].mean() > 200
    assert eleventh[4:].mean() < 40


def test_a_pet_sheet_is_transparent_outside_the_brain():
    mask = np.zeros((16, 16, 4), np.float32)
    mask[:8] = 1.0
    alpha = decoded(viewer.pet_sheet(mask, mask, 2.0, "inferno"))[..., 3]
    assert alpha[:, :4].min() == 255
    assert alpha[:, 4:8].max() == 0


def test_a_summary_survives_json(tmp_path, drawn):
    before = summary(results=drawn[0], left_out=("a",), timings={"n4_t1w": 1.5})
    path = tmp_path / "sub-01_desc-summary.json"
    path.write_text(json.dumps(before.to_json()))
    assert read_summary(path) == before


@pytest.mark.parametrize("text", ["{", "[]", '{"subject": "01"}'])
def test_a_summary_that_cannot_be_read_is_named(tmp_path, text):
    path = tmp_path / "sub-01_desc-summary.json"
    path.write_text(text)
    with pytest.raises(BadDataError, match=r"sub-01_desc-summary\.json.*delete it"):
        read_summary(path)


def test_a_report_is_one_file_that_fetches_nothing(tmp_path, drawn):
    results, content = drawn
    for name, picture in content.items():
        (tmp_path / name).write_bytes(picture)
    text = page(tmp_path, summary(results=results))
    outline = Outline(text)
    sources = [attrs["src"] for attrs in outline.all("img")]
    assert len(sources) == 7 + 5 + 2
    assert all(source.startswith("data:image/") for source in sources)
    assert not re.search(r'(src|href)="(?!data:|#|https://doi)', text)
    embedded = {base64.b64decode(source.split(",")[1]) for source in sources}
    assert set(content.values()) <= embedded
    assert "not there any more" not in text


def test_a_report_says_first_what_the_model_was_trained_on(tmp_path):
    text = page(tmp_path, summary())
    body = text[text.index("<body>") :]
    places = [
        body.index(words)
        for words in (
            "Trained on simulated PET: for trying out the software only",
            "200 simulated heads",
            "Synthetic images, not measurements. MRI does not determine amyloid or tau. "
            "Not for clinical use.",
            "<h1>",
            "<main",
        )
    ]
    assert places == sorted(places)
    real = page(tmp_path, summary(model=replace(MODEL, simulated=False, trained_on="ADNI")))
    assert "Trained on simulated PET" not in real
    assert "was trained on ADNI." in real


def test_what_the_numbers_are_not_stands_where_they_do(tmp_path, drawn):
    text = page(tmp_path, summary(results=drawn[0]))
    before = text[text.rindex("<h3>", 0, text.index("Mean SUVR")) : text.index("Mean SUVR")]
    for words in ("not measurements", "does not determine amyloid or tau", "Not for clinical use"):
        assert words in before


def test_a_report_is_readable_by_a_screen_reader(tmp_path, drawn):
    for name, picture in drawn[1].items():
        (tmp_path / name).write_bytes(picture)
    outline = Outline(page(tmp_path, summary(results=drawn[0]), summary(session="2")))
    tags = [tag for tag, _ in outline.elements]
    levels = [int(tag[1]) for tag in tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert outline.all("html")[0]["lang"] == "en"
    assert all(tags.count(tag) == 1 for tag in ("main", "nav", "header", "footer"))
    assert all(img.get("alt") or "hidden" in img for img in outline.all("img"))
    ids = [attrs["id"] for _, attrs in outline.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = {attrs["href"] for attrs in outline.all("a") if attrs["href"].startswith("#")}
    assert {link[1:] for link in links} <= set(ids)


def test_markup_in_a_dataset_is_inert(tmp_path):
    evil = "<script>alert(1)</script>"
    hostile = summary(
        subject=evil,
        session=evil,
        status=FAILED,
        error=evil,
        inputs={"T1w": evil},
        left_out=(evil,),
        warnings=(evil,),
        methods=f"# Methods\n\n{evil} `{evil}`",
        model=replace(MODEL, name=evil, trained_on=evil),
    )
    text = render_report(evil, [(hostile, tmp_path)], [evil])
    assert evil not in text
    assert len(Outline(text).all("script")) == 1


def test_a_missing_picture_and_a_missing_session_are_said(tmp_path, drawn):
    text = page(tmp_path, summary(results=drawn[0]), problems=["x.json: delete it"])
    assert "desc-brain_mask.webp is not there any more" in text
    assert "x.json: delete it" in text


def test_methods_are_shown_once_with_their_links():
    html = markdown("# Methods\n\nN4 (A, 2010).\n\n# References\n\n- A. <https://doi.org/1>", 3)
    assert '<a href="https://doi.org/1">' in html
    assert html.count("<h3>") == 1


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(tmp_path / "bids", tmp_path / "out", tmp_path / "work")


@pytest.fixture
def plan() -> SynthesisPlan:
    return SynthesisPlan(
        path=Path("phantom.safetensors"),
        name="phantom",
        sha256="ab" * 32,
        config=PRESETS["fast"],
        provenance={"simulated": True, "trained_on": "200 simulated heads"},
        tracers={label: TRACERS[label] for label in LABELS},
        n_samples=4,
        sampling_steps=10,
        random_seed=42,
        device="cpu",
    )


def session_of(settings: Settings, label: str, **changes) -> Session:
    t1w = settings.bids_dir / "sub-01" / f"ses-{label}" / "anat" / "T1w.nii.gz"
    return Session(**{"subject": "01", "session": label, "t1w": t1w} | changes)


def test_a_report_grows_with_each_session_that_ends(settings, plan, drawn):
    reports = Reports(settings, plan, "# Methods\n\nText.", "run")
    derivatives = Derivatives(settings.output_dir)
    done = session_of(settings, "1")
    left = results_path(derivatives.summary(done))
    left.parent.mkdir(parents=True)
    left.write_text(json.dumps(asdict(drawn[0])))
    reports.done(done, {"n4_t1w": 2.0})
    reports.failed(session_of(settings, "2"), "n4 t1w: it is constant", {})
    reports.left_out(session_of(settings, "3", t1w=None, left_out=("no T1w",)))
    text = derivatives.report("01").read_text()
    assert [label in text for label in ("ses-1", "ses-2", "ses-3", "it is constant", "no T1w")] == [
        True
    ] * 5
    stored = read_summary(derivatives.summary(done))
    assert stored.results == drawn[0]
    assert stored.timings == {"n4_t1w": 2.0}
    assert any("no FLAIR" in line for line in stored.warnings)


def test_pictures_of_an_earlier_run_are_not_shown_for_a_failed_session(settings, plan, drawn):
    derivatives, session = Derivatives(settings.output_dir), session_of(settings, "1")
    left = results_path(derivatives.summary(session))
    left.parent.mkdir(parents=True)
    left.write_text(json.dumps(asdict(drawn[0])))
    reports = Reports(settings, plan, "", "run")
    reports.begin(session)
    reports.failed(session, "worker killed", {})
    assert read_summary(derivatives.summary(session)).results is None


def test_a_report_that_cannot_be_written_ends_nothing(settings, plan, capsys):
    settings.output_dir.parent.mkdir(exist_ok=True)
    settings.output_dir.write_text("a file where a folder should be")
    Reports(settings, plan, "", "run").done(session_of(settings, "1"), {})
    assert "sub-01/ses-1  no report" in capsys.readouterr().err


@pytest.mark.slow
def test_the_graph_leaves_pictures_and_results_in_out(settings, plan, head, tmp_path):
    session = session_of(settings, "1", flair=settings.bids_dir / "flair.nii.gz")
    workflow = init_session_report_wf(session=session, settings=settings, plan=plan)
    workflow.base_dir = str(tmp_path / "work")
    quality, affine = tmp_path / "quality.json", tmp_path / "affine.mat"
    likeness = tmp_path / "likeness.json"
    quality.write_text(json.dumps(QUALITY))
    likeness.write_text(json.dumps(Likeness(0.1, 1.0, 1.0).to_dict()))
    write_affine(affine, head.to_template)
    inputs = workflow.inputs.inputnode
    inputs.t1w_preproc, inputs.flair_preproc = str(head.t1w), str(head.flair)
    inputs.brain_mask, inputs.mask_qc = str(head.brain_mask), str(quality)
    inputs.likeness = str(likeness)
    inputs.t1w_to_template_affine = str(affine)
    inputs.mean, inputs.std = [str(p) for p in head.mean], [str(p) for p in head.std]
    workflow.run()
    Reports(settings, plan, "", "run").done(session, {})
    derivatives = Derivatives(settings.output_dir)
    stored = read_summary(derivatives.summary(session))
    assert [tracer.label for tracer in stored.results.tracers] == list(LABELS)
    assert any("T1w is unlike" in line for line in stored.warnings)
    assert "not there any more" not in derivatives.report("01").read_text()


def test_saving_pictures_is_never_skipped():
    # OUT may have been deleted while the work folder was kept.
    assert SaveFigures().always_run
