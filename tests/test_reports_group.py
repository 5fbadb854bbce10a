"""The group's page: what it says first, what it shows, and that nothing gets out of hand."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from rela_bids.group.findings import find
from rela_bids.phantom.tables import MadeUp, write_participants, write_people
from rela_bids.reports.group import render_group
from rela_bids.reports.group_plots import MOST_MARKS, Panel, bland_altman_plot, scatter_plot
from rela_bids.settings import GroupSettings, Settings

PEOPLE = [f"{number:02d}" for number in range(24)]
EVIL = "<script>alert('x')</script>"


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
        self.text += f"{data} "

    def every(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def render(root: Path, **changes: object) -> Page:
    settings = Settings(
        bids_dir=root / "bids", output_dir=root / "out", work_dir=root / "work", level="group"
    )
    return Page(render_group(root / "out", find(replace(settings, **changes))))


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("group")
    made_up = MadeUp(tracers=("18FAV45", "18FAV1451"), sessions=("1",))
    write_participants(root / "bids", PEOPLE)
    write_people(root / "out", PEOPLE, made_up)
    write_people(root / "other", PEOPLE, replace(made_up, fidelity=0.1, model_sha256="1" * 64))
    for label in PEOPLE[:20]:
        (root / "out" / f"sub-{label}.html").touch()
    return root


@pytest.fixture(scope="module")
def page(root) -> Page:
    return render(root, group=GroupSettings(compare=(root / "other",)))


def test_it_says_first_what_the_model_learned_from(page):
    text = " ".join(page.text.split())
    start = text.index("Trained on simulated PET: for trying out the software only")
    assert start < text.index("The model made-up") < text.index("Not for clinical use")
    assert text.index("Not for clinical use") < text.index("24 people, 24 sessions")
    # Beside the numbers of every section, at the top and at the end.
    assert text.count("Not for clinical use") >= 8


def test_all_is_in_one_file_and_links_lead_to_reports_that_are_there(page, root):
    assert len(page.every("script")) == 1
    assert not any("src" in script for script in page.every("script"))
    assert all(image["src"].startswith("data:image/svg+xml") for image in page.every("img"))
    assert all(len(image["alt"]) > 40 for image in page.every("img"))
    outward = {a["href"] for a in page.every("a") if not a["href"].startswith("#")}
    assert outward == {f"sub-{label}.html" for label in PEOPLE[:20]}
    identifiers = [a["id"] for _, a in page.elements if "id" in a]
    inward = {a["href"][1:] for a in page.every("a") if a["href"].startswith("#")}
    assert inward <= set(identifiers)
    assert len(identifiers) == len(set(identifiers))


def test_headings_go_down_one_level_at_a_time_and_tables_have_captions(page):
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert len(page.every("caption")) == len(page.every("table")) >= 10


def test_the_worst_cases_are_the_worst(page, root):
    text = " ".join(page.text.split())
    assert "The 5 with the lowest PSNR" in text
    settings = Settings(
        bids_dir=root / "bids", output_dir=root / "out", work_dir=root / "work", level="group"
    )
    scans = find(settings).groups[0].measured
    worst = min(scans, key=lambda scan: scan.agreement["psnr_brain"])
    table = text[text.index("The 5 with the lowest PSNR") :]
    assert table.index(worst.key.participant_id) < 300


def test_models_side_by_side_say_which_is_nearer(page):
    text = " ".join(page.text.split())
    side_by_side = text[text.index("Over the people that both have") :]
    assert "PSNR, dB, in the brain 24" in side_by_side
    assert "first" in side_by_side


def test_sessions_that_were_flagged_or_failed_are_named(root):
    for label, content in {
        "03": {"status": "done", "warnings": ["The brain mask is doubtful."]},
        "04": {"status": "failed", "error": "its T1w is truncated", "warnings": []},
        "05": {"status": "done", "warnings": []},
    }.items():
        path = root / "out" / f"sub-{label}" / "figures" / f"sub-{label}_ses-1_desc-summary.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"session": "1"} | content))
    text = " ".join(render(root).text.split())
    assert "2 of 3 sessions" in text
    assert "sub-03 ses-1 The brain mask is doubtful." in text
    assert "sub-04 ses-1 failed: its T1w is truncated" in text


def test_words_of_others_stay_words(tmp_path):
    write_participants(tmp_path / "bids", PEOPLE[:3])
    write_people(tmp_path / "out", PEOPLE[:3], MadeUp(model=EVIL))
    for path in (tmp_path / "out").rglob("*synth_suvr.*"):
        if path.suffix == ".json":
            content = json.loads(path.read_text()) | {"ReferenceRegion": EVIL, "TracerName": EVIL}
            path.write_text(json.dumps(content))
        else:
            path.write_text(path.read_text().replace("ctx-lh-precuneus", EVIL))
    for path in (tmp_path / "out").rglob("*measured_suvr.json"):
        path.write_text(json.dumps({"ReferenceRegion": EVIL}))
    page = render(tmp_path)
    assert len(page.every("script")) == 1
    assert page.text.count(EVIL) >= 4


def test_many_people_do_not_make_the_plots_large():
    rng = np.random.default_rng(0)

    def panels(people: int) -> list[Panel]:
        measured, synthetic = rng.normal(1.3, 0.2, (2, people))
        return [Panel("a", synthetic, measured, "r 0.00")]

    few, many = panels(MOST_MARKS), panels(5000)
    assert b"<image" not in scatter_plot(few)
    assert len(scatter_plot(many)) < 30 * 5000
    assert b"<image" in bland_altman_plot(many, [(0.0, -0.1, 0.1)])
    assert scatter_plot(many) == scatter_plot(many)
