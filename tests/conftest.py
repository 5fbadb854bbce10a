"""What several test modules share: where the development data lies, and small phantoms."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest

# How long an example takes says more of the machine than of the code.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def shared_folder(name: str) -> Path:
    """A folder of development data that is not part of the repository; skips where absent."""
    folder = SHARED_DATA / name
    if not folder.exists():
        pytest.skip(f"development data {name} is not on this machine")
    return folder


@pytest.fixture(scope="session")
def real_mri() -> Path:
    return shared_folder("realmri")


@pytest.fixture(scope="session")
def reference_numbers() -> Path:
    return shared_folder("reference")


@pytest.fixture(scope="session")
def wave_skeleton() -> Path:
    return shared_folder("ds004856_skeleton")


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it wrote to the terminal."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line that a command which refuses its input writes, and nothing else."""
        assert self.out == ""
        assert "Traceback" not in self.err
        assert len(self.err.splitlines()) == 1, self.err
        return self.err.strip()


@pytest.fixture
def rela_bids(capsys, monkeypatch, tmp_path) -> Callable[..., Ended]:
    """Runs the command in this process, in a folder of its own."""
    from rela_bids.cli.run import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Ended:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Ended(int(code), *capsys.readouterr())

    return run


@contextmanager
def _without_root() -> Iterator[None]:
    if os.geteuid() != 0:
        yield
        return
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def without_root() -> Callable[[], AbstractContextManager[None]]:
    """Takes away root's right to read and write everything, for a while."""
    return _without_root
