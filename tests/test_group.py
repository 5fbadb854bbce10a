"""The group level on tables of people who do not exist: its numbers, and what it keeps apart."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from rela_bids.cli.run import main
from rela_bids.group.findings import INDEX, Findings, find
from rela_bids.group.index import load_index
from rela_bids.group.positivity import resampled_auc
from rela_bids.group.statistics import Pairs, draws, ends, resampled
from rela_bids.model.description import sha256
from rela_bids.phantom.tables import ATLAS, MadeUp, write_participants, write_people
from rela_bids.quantification import auc, bland_altman, bootstrap_over_people, icc21, pearson
from rela_bids.settings import GroupSettings, Selection, Settings

AMYLOID, INFLAMMATION = "18FAV45", "11CPBR28"
PEOPLE = [f"{number:02d}" for number in range(40)]
KEYS = ["variant", "tracer", "region"]


def settings_of(root: Path, **changes: object) -> Settings:
    return Settings(
        bids_dir=root / "bids",
        output_dir=root / "out",
        work_dir=root / "work",
        level="group",
        **changes,
    )


def run(root: Path, *options: object) -> int:
    arguments = (root / "bids", root / "out", "group", "-w", root / "work", *options)
    return main([str(argument) for argument in arguments])


def table(root: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(
        root / "out" / f"group_{name}.tsv", sep="\t", na_values="n/a", keep_default_na=False
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """Forty people, two sessions each, two tracers; and the same people by a worse model."""
    root = tmp_path_factory.mktemp("study")
    made_up = MadeUp(tracers=(AMYLOID, INFLAMMATION), sessions=("1", "2"))
    write_participants(root / "bids", PEOPLE)
    write_people(root / "out", PEOPLE, made_up)
    worse = replace(made_up, fidelity=0.1, bias=0.1, model="worse", model_sha256="1" * 64)
    write_people(root / "other", PEOPLE[:30], worse)
    (root / "out" / "sub-00.html").touch()
    assert run(root, "--compare", root / "other") == 0
    return root


@pytest.fixture
def few(tmp_path) -> Path:
    """Six people without sessions, one tracer."""
    write_participants(tmp_path / "bids", PEOPLE[:6])
    write_people(tmp_path / "out", PEOPLE[:6], MadeUp())
    return tmp_path


def by_person(study: Path) -> pd.DataFrame:
    """Means over sessions, from the written table of every session."""
    suvr = table(study, "suvr").dropna(subset=["synthetic_mean", "measured_mean"])
    columns = ["synthetic_mean", "measured_mean"]
    return suvr.groupby([*KEYS, "participant_id"])[columns].mean().reset_index()


def test_statistics_are_those_computed_from_the_tables_by_other_formulas(study):
    found = table(study, "statistics").set_index(KEYS)
    people = by_person(study)
    assert len(found) == 2 * people["region"].nunique()
    for key, rows in people.groupby(KEYS):
        x, y = rows["synthetic_mean"].to_numpy(), rows["measured_mean"].to_numpy()
        row = found.loc[key]
        assert row["people"] == 40
        assert row["pearson_r"] == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-4)
        # ICC(2,1) by covariances, for two measurements: McGraw and Wong 1996, table 4.
        shift = (x.mean() - y.mean()) ** 2 - np.var(x - y, ddof=1) / len(x)
        icc = 2 * np.cov(x, y)[0, 1] / (np.var(x, ddof=1) + np.var(y, ddof=1) + shift)
        assert row["icc21"] == pytest.approx(icc, abs=1e-4)
        difference = x - y
        assert row["bias"] == pytest.approx(difference.mean(), abs=1e-5)
        reach = 1.96 * np.sqrt(((difference - difference.mean()) ** 2).sum() / (len(x) - 1))
        assert row["limit_high"] - row["limit_low"] == pytest.approx(2 * reach, abs=1e-5)
        assert row["mae"] == pytest.approx(np.abs(difference).mean(), abs=1e-5)
        others = [np.delete(y, person).mean() for person in range(len(y))]
        assert row["mae_of_others"] == pytest.approx(np.abs(y - others).mean(), abs=1e-5)


def test_every_table_has_its_columns_described(study):
    for name in ("suvr", "agreement", "statistics", "positivity", "comparison"):
        sidecar = json.loads((study / "out" / f"group_{name}.json").read_text())
        columns = table(study, name).columns
        assert list(sidecar)[-len(columns) :] == list(columns)
        assert all(sidecar[column]["Description"] for column in columns)
        assert "not a measurement" in sidecar["Description"]


def test_intervals_are_those_of_the_bootstrap_over_people():
    rng = np.random.default_rng(3)
    x = rng.normal(1.2, 0.3, (25, 4))
    y = x + rng.normal(0.1, 0.2, x.shape)
    found = resampled(Pairs(tuple(map(str, range(25))), 25, x, y))
    statistics = {
        "pearson_r": pearson,
        "icc21": icc21,
        "bias": lambda a, b: bland_altman(a, b)[0],
        "mae": lambda a, b: np.abs(a - b).mean(0),
    }
    for name, statistic in statistics.items():
        np.testing.assert_allclose(ends(found[name]), bootstrap_over_people(statistic, x, y))
    truth, score = rng.random(25) < 0.4, np.round(rng.random(25), 1)
    expected = bootstrap_over_people(auc, truth, score)
    np.testing.assert_allclose(ends(resampled_auc(draws(25), truth, score)), expected)


def test_a_region_that_some_people_lack_is_of_the_others():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(2, 20, 2))
    x[:5, 1] = np.nan
    found = resampled(Pairs(tuple(map(str, range(20))), 20, x, y))
    low, high = ends(found["bias"])
    assert low[1] < np.mean(x[5:, 1] - y[5:, 1]) < high[1]
    assert np.isfinite(low).all()


def test_positivity_is_that_of_the_tables(study):
    suvr = table(study, "suvr")
    composite = suvr[(suvr["region"] == "global-composite") & (suvr["tracer"] == AMYLOID)]
    people = composite.groupby("participant_id")[["synthetic_on_scale", "measured_on_scale"]].mean()
    truth = people["measured_on_scale"] >= 24.4
    found = table(study, "positivity")
    if truth.sum() < 10 or (~truth).sum() < 10:
        pytest.fail("the made-up people do not serve")
    row = found[~found["learned"]].iloc[0]
    assert row["auc"] == pytest.approx(roc_auc_score(truth, people["synthetic_on_scale"]), abs=1e-5)
    called = people["synthetic_on_scale"] >= 24.4
    assert row["balanced_accuracy"] == pytest.approx(
        balanced_accuracy_score(truth, called), abs=1e-5
    )
    assert row["positive"] == truth.sum()
    learned = found[found["learned"]]["predictor"]
    assert {"age", "MRI volumes", "age and MRI volumes"} <= set(learned)
    assert set(found["tracer"]) == {AMYLOID}  # no cut-off is published for the other


def test_a_cutoff_can_be_given_and_too_few_people_are_said(study, few):
    cutoffs = (f"{INFLAMMATION}=1.3",)
    checks = find(settings_of(study, group=GroupSettings(cutoffs=cutoffs))).positivity
    check = next(check for check in checks if check.group.tracer == INFLAMMATION)
    assert str(check.cutoff) == "1.3 SUVR"
    assert check.predictions or "people are positive" in check.why_not
    (check,) = find(settings_of(few)).positivity
    assert "it takes 10 of each" in check.why_not


def test_without_ages_volumes_stand_alone(study, tmp_path):
    settings = replace(settings_of(study), bids_dir=tmp_path)
    check = next(c for c in find(settings).positivity if c.group.tracer == AMYLOID)
    assert "age" not in " ".join(found.predictor for found in check.predictions)
    assert "participants.tsv has no age" in check.notes[0]


def test_models_are_compared_on_the_same_people(study):
    found = table(study, "comparison")
    own = table(study, "agreement")
    settings = replace(settings_of(study), output_dir=study / "other")
    other = {
        (scan.key.participant_id, scan.key.session_id): scan.agreement["psnr_brain"]
        for group in find(settings).groups
        if group.tracer == AMYLOID
        for scan in group.scans
    }
    own = own[own["tracer"] == AMYLOID].set_index(["participant_id", "session_id"])["psnr_brain"]
    pairs = pd.DataFrame({"first": own, "second": pd.Series(other)}).dropna()
    people = pairs.groupby(level=0).mean()
    row = found[(found["measure"] == "psnr_brain") & (found["tracer"] == AMYLOID)].iloc[0]
    difference = people["first"] - people["second"]
    assert row["people"] == len(people) == 30
    assert row["difference"] == pytest.approx(difference.mean(), abs=1e-4)
    assert row["p"] == pytest.approx(stats.wilcoxon(difference).pvalue, rel=1e-4)
    assert row["difference_low"] > 0
    errors = found[(found["measure"] == "regional_error") & (found["tracer"] == AMYLOID)]
    adjusted = stats.false_discovery_control(errors["p"])
    np.testing.assert_allclose(errors["p_fdr"], adjusted, rtol=1e-4)
    assert (found["measure"] == "pearson_r").sum() == 2 * len(errors)


def test_models_in_one_folder_are_named_and_kept_apart(few):
    other = MadeUp(sessions=("9",), model="other", model_sha256="2" * 64)
    write_people(few / "out", PEOPLE[:5], other)
    assert run(few) == 0
    statistics = table(few, "statistics")
    assert set(statistics.groupby("variant")["people"].max()) == {6, 5}
    page = (few / "out" / "group.html").read_text()
    for variant in statistics["variant"].unique():
        assert variant in page
    assert "There are 2 models or settings here" in page


def test_a_person_with_more_sessions_counts_once(few):
    write_people(few / "out", PEOPLE[:2], MadeUp(sessions=("1", "2", "3")))
    assert run(few) == 0
    assert table(few, "statistics")["people"].max() == 6
    assert len(table(few, "agreement")) == 12


def test_without_measured_pet_the_page_says_what_cannot_be_known(tmp_path):
    write_participants(tmp_path / "bids", PEOPLE[:3])
    write_people(tmp_path / "out", PEOPLE[:3], MadeUp(measured=False))
    assert run(tmp_path) == 0
    statistics = table(tmp_path, "statistics")
    assert statistics["pearson_r"].isna().all()
    assert (statistics["all_people"] == 3).all()
    assert table(tmp_path, "suvr")["measured_mean"].isna().all()
    assert "There is no measured PET here" in (tmp_path / "out" / "group.html").read_text()


def test_people_of_the_training_are_left_out_of_agreement(few):
    model = few / "out" / "models" / "mine" / "model.safetensors"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"weights")
    (model.parent / "splits.tsv").write_text(
        "participant_id\tsplit\nsub-00\ttrain\nsub-01\tvalidation\nsub-02\ttest\n"
    )
    for folder in (few / "out").glob("sub-*"):
        for sidecar in folder.glob("pet/*synth_suvr.json"):
            content = json.loads(sidecar.read_text())
            content["Model"]["SHA256"] = sha256(model)
            sidecar.write_text(json.dumps(content))
    assert run(few) == 0
    assert table(few, "statistics")["people"].max() == 5
    training = table(few, "agreement").set_index("participant_id")["training"]
    assert list(training.index[training]) == ["sub-00"]
    assert "trained on 1 of these people" in (few / "out" / "group.html").read_text()


def counts(found: Findings) -> tuple[int, int]:
    return found.read, sum(len(group.scans) for group in found.groups)


def test_only_what_is_new_or_changed_is_read(few):
    settings = settings_of(few)
    assert counts(find(settings)) == (6, 6)
    before = find(settings)
    assert counts(before) == (0, 6)
    write_people(few / "out", ["07"], MadeUp())
    assert counts(find(settings)) == (1, 7)
    write_people(few / "out", ["03"], MadeUp(bias=0.5))
    after = find(settings)
    assert counts(after) == (1, 7)
    (few / "out" / INDEX).unlink()
    again = find(settings)
    assert counts(again) == (7, 7)
    assert json.dumps(again.statistics) == json.dumps(after.statistics)


def test_a_selection_keeps_what_is_known_of_the_others(few):
    find(settings_of(few))
    one = find(settings_of(few, selection=Selection(participants=("02",))))
    assert counts(one) == (0, 1)
    assert counts(find(settings_of(few))) == (0, 6)
    for file in (few / "out" / "sub-02" / "pet").iterdir():
        file.unlink()
    assert counts(find(settings_of(few))) == (0, 5)
    assert len(load_index(few / "out" / INDEX)) == 5


def test_an_index_that_is_broken_is_made_again(few):
    find(settings_of(few))
    (few / "out" / INDEX).write_bytes(b"PK\x03\x04 cut off")
    assert counts(find(settings_of(few))) == (6, 6)


def test_a_broken_table_is_named_and_the_others_are_used(few, capsys):
    path = few / "out/sub-01/pet" / f"sub-01_trc-{AMYLOID}_seg-{ATLAS}_desc-synth_suvr.tsv"
    path.write_text("index\tregion\n1\t")
    path.with_name(path.name.replace("sub-01", "sub-99")).touch()
    assert run(few) == 1
    assert path.name in capsys.readouterr().err
    assert table(few, "statistics")["people"].max() == 5
    assert path.name in (few / "out" / "group.html").read_text()


def test_a_measured_pet_by_another_reference_region_is_not_compared(few, capsys):
    path = few / "out/sub-01/pet" / f"sub-01_trc-{AMYLOID}_seg-{ATLAS}_desc-measured_suvr.json"
    path.write_text(json.dumps({"ReferenceRegion": "pons"}))
    assert run(few) == 1
    assert "pons" in capsys.readouterr().err
    assert table(few, "statistics")["people"].max() == 5


def test_sessions_without_regions_still_have_their_agreement(few):
    for path in (few / "out").glob("sub-*/pet/*_suvr.*"):
        path.unlink()
    for path in (few / "out").glob("sub-*/pet/*_metrics.tsv"):
        model = {"Name": "made-up", "SHA256": "0" * 64}
        path.with_suffix(".json").write_text(json.dumps({"Model": model}))
    assert run(few) == 0
    assert len(table(few, "agreement")) == 6
    assert not (few / "out" / "group_statistics.tsv").read_text().splitlines()[1:]


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        ((), 66, "participant level first"),
        (("--participant-label", "99"), 66, "participant level first"),
        (("--n-samples", 3), 64, "--n-samples"),
        (("--positivity-cutoff", "18FAV45"), 64, "--positivity-cutoff"),
    ],
)
def test_what_cannot_be_done_is_one_line_with_its_code(tmp_path, capsys, options, code, word):
    write_participants(tmp_path / "bids", [])
    (tmp_path / "out").mkdir()
    assert run(tmp_path, *options) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert word in lines[0]


def test_labels_that_match_nothing_end_with_18(few, capsys):
    assert run(few, "--participant-label", "99") == 18
    assert "--participant-label" in capsys.readouterr().err


def test_a_dry_run_names_the_tables_and_writes_nothing(few, capsys):
    before = sorted(few.rglob("*"))
    assert run(few, "--dry-run") == 0
    assert "desc-synth_suvr.tsv" in capsys.readouterr().out
    assert sorted(few.rglob("*")) == before


MEASURED_RUN = """
import resource, sys
from rela_bids.cli.run import main
code = main(sys.argv[1:])
print(code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_a_thousand_sessions_take_little_memory_and_are_read_once(tmp_path):
    people = [f"{number:03d}" for number in range(250)]
    made_up = MadeUp(sessions=("1", "2", "3", "4"))
    write_participants(tmp_path / "bids", people)
    write_people(tmp_path / "out", people, made_up)
    folders = [str(tmp_path / name) for name in ("bids", "out", "work")]
    command = [sys.executable, "-c", MEASURED_RUN, *folders[:2], "group", "-w", folders[2]]

    def measured_run() -> tuple[str, str]:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout, done.stderr

    out, said = measured_run()
    code, kilobytes = map(int, out.split())
    assert code == 0
    assert kilobytes < 2e6
    assert "1000 sessions" in said
    assert "1000 read now" in said
    write_people(tmp_path / "out", ["999"], replace(made_up, sessions=("1",)))
    assert "1 read now" in measured_run()[1]
    assert (tmp_path / "out" / "group.html").stat().st_size < 5e6
