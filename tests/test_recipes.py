"""Dockerfile and Apptainer definition: the same steps, the same version."""

import re
from configparser import ConfigParser
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def commands(text: str) -> set[str]:
    """The commands of a recipe that install and remove, without what joins them."""
    joined = re.sub(r"\\\n\s*", " ", text)
    parts = re.split(r"&&|\n", joined)
    bare = (re.sub(r"\s+", " ", part.removeprefix("RUN ")).strip() for part in parts)
    return {
        part for part in bare if re.match(r"(apt-get|rm|find|python3|/opt/venv/bin/pip) ", part)
    }


def test_both_recipes_take_the_same_steps():
    docker = commands((REPOSITORY / "Dockerfile").read_text())
    apptainer = commands((REPOSITORY / "apptainer.def").read_text())
    torch = {step for step in docker | apptainer if "torch" in step.split()[-1:]}
    assert len(torch) == 2  # the one through a variable, the other as written
    assert docker - torch == apptainer - torch
    assert len(docker) > 8


def test_both_recipes_name_this_version():
    setup = ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    version = setup["metadata"]["version"]
    assert f"ARG VERSION={version}\n" in (REPOSITORY / "Dockerfile").read_text()
    apptainer = (REPOSITORY / "apptainer.def").read_text()
    assert re.findall(r"version (\S+)", apptainer) == [version, version]
