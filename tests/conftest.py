"""What several test modules share: where the development data lies, and small phantoms."""

from pathlib import Path

import pytest

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
