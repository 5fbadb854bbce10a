"""The benchmarks: what their scores mean, and a comparison from start to end, small."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rela_bids.model.presets import PRESETS

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
GRID = PRESETS["fast"].grid.with_voxel_size(8.0, multiple_of=8)


@pytest.fixture(scope="module", autouse=True)
def benchmarks_on_path():
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


def smooth(rng: np.random.Generator, *shape: int) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    sigma = (0,) * (len(shape) - 3) + (2, 2, 2)
    return (1 + 5 * gaussian_filter(rng.normal(size=shape), sigma)).astype(np.float32)


def scored(samples: np.ndarray, measured: np.ndarray) -> dict:
    from scores import score_samples

    mask = np.zeros(GRID.shape, bool)
    mask[2:-2, 2:-2, 2:-2] = True
    return score_samples(samples, measured, mask, 3.0, GRID)


def test_an_interval_of_samples_like_the_truth_covers_nine_in_ten():
    rng = np.random.default_rng(0)
    drawn = smooth(rng, 200, *GRID.shape)
    scores = scored(drawn[1:], drawn[0])
    assert 0.85 < scores["voxel_coverage"] < 0.95
    assert scored(1 + 0.2 * (drawn[1:] - 1), drawn[0])["voxel_coverage"] < 0.4


def test_detail_is_that_of_the_truth_where_grain_is_and_less_where_it_is_blurred():
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    truth, other = rng.normal(1, 0.2, (2, *GRID.shape)).astype(np.float32)
    assert scored(other[None], truth)["detail"] == pytest.approx(1, abs=0.1)
    assert scored(gaussian_filter(other, 1)[None], truth)["detail"] < 0.2


def test_correlation_is_between_people_and_not_over_regions():
    from scores import correlation_between_people, regions_on

    rng = np.random.default_rng(0)
    names, _ = regions_on(GRID)
    regions = rng.normal(size=len(names))
    rows = []
    for person in range(20):
        measured = regions + 0.1 * rng.normal(size=len(names))
        rows.append(
            {
                "person": str(person),
                "tracer": "18FFDG",
                "regional": (regions + 0.1 * rng.normal(size=len(names))).tolist(),
                "regional_measured": measured.tolist(),
            }
        )
    assert abs(correlation_between_people(rows)) < 0.2
    for row in rows:
        row["regional"] = row["regional_measured"]
    assert correlation_between_people(rows) == pytest.approx(1)


@pytest.mark.very_slow
def test_every_system_is_trained_scored_and_shown(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- comparison -->\nold\n<!-- end of comparison -->\nafter\n")
    options = "--people 10 --held-out 4 --voxel-size 8 --seconds 2 --tracers 18FAV45 11CPBR28"
    command = [sys.executable, str(BENCHMARKS / "compare.py"), "--folder", str(tmp_path / "work")]
    command += ["--out", str(page), *options.split()]
    subprocess.run(command, check=True, timeout=3600)
    first = page.read_text()
    assert first.startswith("before\n<!-- comparison -->\n")
    assert first.endswith("<!-- end of comparison -->\nafter\n")
    assert "old" not in first
    from systems import SYSTEMS

    for name, system in SYSTEMS.items():
        kept = json.loads((tmp_path / "work" / "systems" / name / "scores.json").read_text())
        people = {row["person"] for row in kept["rows"]}
        assert f"| {system.text} | {len(people)} |" in first
        # Without T1w, a person who has no FLAIR has nothing.
        assert len(people) == min(4, system.people or 4) or name == "no-t1w"
        assert len(kept["rows"]) == 2 * len(people)
        assert all(np.isfinite(row["psnr"]) for row in kept["rows"])
    # Nothing is done again, but for the times.
    subprocess.run(command, check=True, timeout=300)
    assert page.read_text().split("What it costs")[0] == first.split("What it costs")[0]
