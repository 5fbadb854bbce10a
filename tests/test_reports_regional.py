"""Regions and measured PET on a person's page, and the records that they come from."""

import json
from dataclasses import asdict, replace

import nibabel as nib
import numpy as np
import pytest

from rela_bids.atlases import packaged_atlas
from rela_bids.bids.derivatives import AGREEMENT, MEASURED_SUVR, SYNTH_SUVR, Derivatives
from rela_bids.bids.query import Session
from rela_bids.cli.reporting import Reports
from rela_bids.model.presets import PRESETS
from rela_bids.regional_table import RegionalRow, tsv_of
from rela_bids.reports.comparison import comparison_figure
from rela_bids.reports.measured import MeasuredImages, draw_measured
from rela_bids.reports.plots import profile_plot
from rela_bids.reports.regional import main_regions
from rela_bids.reports.summary import MeasuredRecord, read_summary
from rela_bids.settings import Settings
from rela_bids.synthesis import SynthesisPlan
from rela_bids.tracers import TRACERS

TRACER = TRACERS["18FAV45"]
AGREED = {
    "psnr_brain": 21.0,
    "psnr_volume": 30.0,
    "ssim_brain": 0.8,
    "ssim_volume": 0.97,
    "mae_brain": 0.11,
    "mae_volume": 0.02,
    "data_range": 3.0,
}
PET = {
    "frames": [2, 3],
    "minutes": [50.0, 70.0],
    "motion_mm": [0.2, 0.4],
    "offset_mm": 7.3,
    "reference_region": "whole cerebellum",
    "reference_ml": 101.2,
}


def rows(offset: float, std: float | None) -> list[RegionalRow]:
    names = packaged_atlas().names
    regions = [
        RegionalRow(index, name, 5.0, 1 + offset + index / 1e4, std)
        for index, name in names.items()
    ]
    return [*regions, RegionalRow(None, "global-composite", 300.0, 1.3, std, "Centiloid", 45.7)]


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> MeasuredImages:
    folder = tmp_path_factory.mktemp("measured")
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    middle = np.array([12, 13, 12]).reshape(3, 1, 1, 1)
    ball = np.linalg.norm(np.indices((24, 26, 24)) - middle, axis=0) < 10
    paths = {}
    for name, value in {"t1w": 100.0, "mask": 1.0, "measured": 2.0, "synthetic": 1.0}.items():
        paths[name] = folder / f"{name}.nii.gz"
        nib.save(nib.Nifti1Image((value * ball).astype(np.float32), affine), paths[name])
    return MeasuredImages(
        paths["t1w"], paths["mask"], paths["measured"], paths["synthetic"], TRACER
    )


@pytest.fixture(scope="module")
def drawn(images) -> tuple[MeasuredRecord, dict[str, bytes]]:
    return draw_measured(
        images,
        synthetic=rows(0.1, 0.02),
        measured=rows(0.0, None),
        agreement=AGREED,
        pet=PET,
        prefix="sub-01_ses-1",
    )


def test_main_regions_have_both_sides_and_what_was_measured():
    shown = main_regions(rows(0.1, 0.02), rows(0.0, None))
    assert {region.side for region in shown} == {"left", "right"}
    precuneus = next(region for region in shown if region.region == "precuneus")
    assert precuneus.mean == pytest.approx(precuneus.measured + 0.1)
    assert not [region for region in shown if "composite" in region.region]


def test_of_another_atlas_the_largest_regions_are_shown():
    other = [RegionalRow(i, f"parcel{i}", float(i), 1.0, None) for i in range(1, 41)]
    shown = main_regions(other)
    assert len(shown) == 24
    assert shown[0].region == "parcel40"
    assert {region.side for region in shown} == {""}


def test_the_profile_is_the_same_bytes_for_the_same_numbers():
    shown = main_regions(rows(0.1, 0.02), rows(0.0, None))
    assert profile_plot(shown) == profile_plot(shown)
    assert profile_plot(shown).startswith(b"<?xml")


def test_every_picture_is_recorded_and_the_record_survives_json(drawn):
    record, content = drawn
    recorded = {figure.file for figure in record.figures} | {layer.file for layer in record.layers}
    assert recorded == set(content)
    assert [layer.kind for layer in record.layers] == ["measured", "difference"]
    assert record.layers[1].lower == -record.layers[1].upper
    assert MeasuredRecord.from_dict(json.loads(json.dumps(asdict(record)))) == record


def test_without_regions_there_is_no_profile(images):
    record, _ = draw_measured(
        images, synthetic=[], measured=[], agreement=AGREED, pet=PET, prefix="sub-01"
    )
    assert [figure.section for figure in record.figures] == ["comparison"]


def test_a_comparison_of_one_sample_has_one_column_less():
    import io

    from PIL import Image

    ball = np.zeros((40, 40, 40), np.float32)
    ball[8:32, 8:32, 8:32] = 1.0
    options = {"measured": ball, "synthetic": ball, "suvr_scale": 3.0}
    whole, less = (
        Image.open(io.BytesIO(comparison_figure(ball, ball, std=std, **options)))
        for std in (ball, None)
    )
    assert less.width < whole.width
    assert less.height == whole.height


@pytest.fixture
def reports(tmp_path, drawn):
    """Reports on a session that has tables and a measured PET in OUT."""
    settings = Settings(tmp_path, tmp_path / "out", tmp_path / "work")
    plan = SynthesisPlan(
        path=tmp_path / "model",
        name="phantom",
        sha256="ab" * 32,
        config=PRESETS["fast"],
        provenance={"simulated": True, "trained_on": "heads"},
        tracers={TRACER.label: TRACER},
        n_samples=4,
        sampling_steps=2,
        random_seed=0,
        device="cpu",
    )
    session = Session("01", "1", t1w=tmp_path / "T1w.nii.gz", flair=tmp_path / "FLAIR.nii.gz")
    derivatives, atlas = Derivatives(settings.output_dir), packaged_atlas()
    for kind, table in ((SYNTH_SUVR, rows(0.1, 0.0001)), (MEASURED_SUVR, rows(0.0, None))):
        path = derivatives.path(session, kind, tracer=TRACER.label, atlas=atlas.label)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(tsv_of(table))
    derivatives.path(session, AGREEMENT, tracer=TRACER.label).write_text("x")
    record, content = drawn
    path = derivatives.measured_results(session, TRACER.label)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(asdict(record)))
    for name, picture in content.items():
        (path.parent / name).write_bytes(picture)
    return Reports(settings, plan, "# Methods\n\nx.\n", "run", atlas), session, derivatives


def test_a_summary_has_regions_with_what_was_measured_and_survives_json(reports):
    writer, session, derivatives = reports
    writer.done(session, {}, ["Measured PET of 18FFDG left out"])
    found = read_summary(derivatives.summary(session))
    [regional] = found.regional
    assert regional.composite["measured"]["scale_value"] == pytest.approx(45.7)
    assert regional.file.endswith("desc-synth_suvr.tsv")
    assert found.measured[0].agreement == AGREED
    assert "Measured PET of 18FFDG left out" in found.warnings
    assert derivatives.report("01").exists()


def test_what_an_earlier_run_measured_goes_where_this_one_could_not(reports):
    writer, session, derivatives = reports
    writer.begin(session)
    writer.done(session, {})
    found = read_summary(derivatives.summary(session))
    assert found.measured == ()
    assert found.regional[0].composite["measured"] is None
    atlas = packaged_atlas().label
    assert not derivatives.path(session, AGREEMENT, tracer=TRACER.label).exists()
    assert not derivatives.path(session, MEASURED_SUVR, tracer=TRACER.label, atlas=atlas).exists()
    assert derivatives.path(session, SYNTH_SUVR, tracer=TRACER.label, atlas=atlas).exists()


@pytest.mark.parametrize(("sha256", "kept"), [("ab" * 32, True), ("cd" * 32, False)])
def test_tables_of_another_atlas_stay_only_while_the_images_are_the_same(reports, sha256, kept):
    writer, session, derivatives = reports
    paths = [
        derivatives.path(
            session, SYNTH_SUVR, tracer=TRACER.label, atlas="Mine", extension=extension
        )
        for extension in (".tsv", ".json")
    ]
    paths[0].write_text("x")
    sampling = {"RandomSeed": 0, "SamplingSteps": 2, "Samples": 4}
    paths[1].write_text(json.dumps({"Model": {"SHA256": sha256}, **sampling}))
    writer.done(session, {})
    assert [path.exists() for path in paths] == [kept, kept]


def test_numbers_stand_beside_what_they_are_not(reports, tmp_path):
    from rela_bids.reports.subject import render_report
    from rela_bids.reports.summary import Results, TracerRecord

    writer, session, derivatives = reports
    writer.done(session, {})
    summary = derivatives.summary(session)
    quality = {
        "volume_ml": 1400.0,
        "template_overlap": 0.95,
        "bright_edge": 0.3,
        "verdict": "ok",
        "reason": "",
    }
    tracer = TracerRecord(TRACER.label, "florbetapir", "amyloid", "whole cerebellum", 1.2, 0.01)
    shown = replace(read_summary(summary), results=Results(quality, (tracer,), (), None))
    text = render_report("01", [(shown, summary.parent)])
    place = text.index("about 46 Centiloid (approximate)")
    before = text[text.rindex("<h5>", 0, place) : place]
    for words in ("not measured", "does not determine amyloid or tau", "Not for clinical use"):
        assert words in before
    assert "this one is not calibrated to it" in text
    assert "± &lt; 0.001" in text or "± < 0.001" in text
    assert "PSNR, dB" in text
    assert "data:image/svg+xml;base64," in text
