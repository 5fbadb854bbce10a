"""What the documentation shows is run here; commands that take real data are parsed at least."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from configparser import ConfigParser
from pathlib import Path

import pytest

from rela_bids.cli import parser
from rela_bids.phantom.dataset import Recipe, write_dataset
from rela_bids.tracers import TRACERS

CHECKOUT = Path(__file__).resolve().parents[1]
PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
TEXT = {page.name: page.read_text() for page in PAGES}


def fences(page: str, language: str, after: str = "") -> list[str]:
    """The fenced blocks of a page; `after` is a comment that stands before each."""
    return re.findall(rf"{re.escape(after)}\n```{language}\n(.*?)```", TEXT[page], re.DOTALL)


def commands() -> list[tuple[str, str]]:
    """Every call of rela_bids that a page shows, with the page's name."""
    lines = [(page, line.strip()) for page, text in TEXT.items() for line in text.splitlines()]
    calls = ((page, re.match(r"(?:\$ )?(?:\S*/)?rela_bids (/.*)", line)) for page, line in lines)
    return [(page, call[1]) for page, call in calls if call]


@pytest.mark.parametrize(("page", "call"), commands())
def test_a_command_that_is_shown_is_one(page, call, tmp_path, monkeypatch):
    monkeypatch.setattr(parser, "_check_folders", lambda settings: None)
    # A command goes on in the next line after a backslash; what stands there is left out.
    arguments = shlex.split(call.rstrip("\\ "), comments=True)
    parser.parse([word.replace("FILE", str(tmp_path)) for word in arguments])


@pytest.mark.parametrize("page", TEXT)
def test_toml_and_json_that_are_shown_can_be_read(page):
    import json

    for block in fences(page, "toml"):
        tomllib.loads(block)
    for block in fences(page, "json"):
        json.loads(block)


@pytest.mark.parametrize("page", TEXT)
def test_links_within_the_repository_lead_somewhere(page):
    folder = next(path for path in PAGES if path.name == page).parent
    for link in re.findall(r"\]\((?!https?:|#)([^)\s]+)\)", TEXT[page]):
        assert (folder / link.split("#")[0]).exists(), link


def test_the_layers_that_are_drawn_are_those_that_are_checked():
    config = ConfigParser()
    config.read(CHECKOUT / "setup.cfg")
    layers = config["importlinter:contract:layers"]["layers"].split()
    drawn = "".join(
        f"    {line}\n".replace("rela_bids.", "")
        for line in " ".join(layers).replace(" | ", "|").split()
    ).replace("|", " · ")
    assert drawn in (CHECKOUT / "CONTRIBUTING.md").read_text()


@pytest.mark.slow
def test_the_quick_start_runs_as_written(tmp_path):
    (block,) = fences("quickstart.md", "console", "<!-- run -->")
    binaries = Path(sys.executable).parent
    for line in block.splitlines():
        done = subprocess.run(
            shlex.split(line.removeprefix("$ ")),
            cwd=tmp_path,
            env=os.environ | {"PATH": f"{binaries}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    assert (tmp_path / "out/sub-01.html").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The model was trained on simulated PET")
def test_the_examples_in_python_run_as_written(tmp_path, monkeypatch):
    write_dataset(
        tmp_path / "bids", Recipe(subjects=1, seed=1, tracers=[TRACERS["18FAV45"]], voxel_size=4.0)
    )
    for modality in ("T1w", "FLAIR"):
        scan = tmp_path / f"bids/sub-01/anat/sub-01_{modality}.nii.gz"
        scan.rename(tmp_path / f"{modality.lower()}.nii.gz")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in fences("python.md", "python"):
        exec(compile(block, "python.md", "exec"), names)
    assert (tmp_path / "suvr.nii.gz").exists()
