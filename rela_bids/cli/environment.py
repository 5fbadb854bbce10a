"""Where libraries may write, and how many threads they take, settled before they are imported.

On a cluster node HOME may be absent or read-only, and there is no internet. Everything here is an
environment variable, since worker processes and libraries' import-time code read nothing else.
"""

import os
import pwd
import tempfile
from pathlib import Path

from rela_bids.atomic import write_text
from rela_bids.exceptions import CannotWriteError
from rela_bids.head_templates import templateflow_home
from rela_bids.settings import Settings


def set_environment(work_dir: Path, threads: int) -> None:
    """Keep libraries off HOME and the internet, and bound their threads; writes nothing.

    What a user has set already is left alone.
    """
    caches = work_dir / "cache"
    _be_somebody(caches)
    # Before the caches move: templates are where they were.
    os.environ.setdefault("TEMPLATEFLOW_HOME", str(templateflow_home()))
    defaults = {
        "NIPYPE_NO_ET": "1",
        "NO_ET": "1",
        "MPLCONFIGDIR": str(caches / "matplotlib"),
        "XDG_CACHE_HOME": str(caches),
        "NUMBA_CACHE_DIR": str(caches / "numba"),
        "TEMPLATEFLOW_AUTOUPDATE": "off",
        "MPLBACKEND": "Agg",
        "OMP_NUM_THREADS": str(threads),
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    os.environ["NIPYPE_CONFIG_DIR"] = str(caches / "nipype")
    # A scheduler's TMPDIR may not be there in a container, nor /tmp be writable.
    given = [os.environ.get("TMPDIR"), "/tmp"]  # noqa: S108
    usable = (folder for folder in given if folder and os.access(folder, os.W_OK | os.X_OK))
    os.environ["TMPDIR"] = next(usable, str(caches / "tmp"))
    # More than one ITK thread makes ANTs' results differ from run to run, whatever its seed.
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"


def _be_somebody(home: Path) -> None:
    """A user in no passwd file needs a name and a HOME: libraries fail without, some on import."""
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        os.environ.setdefault("HOME", str(home))
        os.environ.setdefault("LOGNAME", f"uid{os.getuid()}")


def make_folders(settings: Settings) -> None:
    """Make the folders of a run and, where `set_environment` says, Nipype's settings file.

    Raises
    ------
    CannotWriteError
        If one cannot be made or written to.
    """
    for folder in (settings.output_dir, settings.work_dir):
        make_folder(folder)
    for name in ("NIPYPE_CONFIG_DIR", "MPLCONFIGDIR", "TMPDIR"):
        make_folder(Path(os.environ[name]))
    config = Path(os.environ["NIPYPE_CONFIG_DIR"], "nipype.cfg")
    write_text(config, nipype_config(settings.log_level, monitor=settings.resource_monitor))


def make_folder(folder: Path) -> None:
    """Make a folder that will be written to.

    Raises
    ------
    CannotWriteError
        If it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise CannotWriteError(
            f"{folder} cannot be written to ({error.strerror}): choose another folder or mend "
            "its permissions"
        ) from error


def nipype_config(level: str, *, monitor: bool = False) -> str:
    """Nipype's own settings file, which its workers read too."""
    return (
        "[logging]\n"
        f"workflow_level = {level}\nutils_level = {level}\ninterface_level = {level}\n"
        "log_to_file = false\n"
        "[execution]\ncheck_version = false\n"
        f"[monitoring]\nenabled = {str(monitor).lower()}\n"
    )
