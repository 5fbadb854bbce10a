"""Where libraries may write, and how many threads they take, settled before they are imported.

On a cluster node HOME may be absent or read-only, and there is no internet. Everything here is an
environment variable, since worker processes and libraries' import-time code read nothing else.
"""

import os
from pathlib import Path

from rela_bids.atomic import write_text


def prepare_environment(work_dir: Path, threads: int, verbose: int) -> None:
    """Keep libraries off HOME and the internet, and bound their threads.

    What a user has set already is left alone.
    """
    caches = work_dir / "cache"
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
    # More than one ITK thread makes ANTs' results differ from run to run, whatever its seed.
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"
    for name in ("NIPYPE_CONFIG_DIR", "MPLCONFIGDIR"):
        Path(os.environ[name]).mkdir(parents=True, exist_ok=True)
    write_text(caches / "nipype" / "nipype.cfg", nipype_config(verbose))


def nipype_config(verbose: int) -> str:
    """Nipype's own settings file, which its workers read too; quiet unless asked."""
    level = ["CRITICAL", "INFO", "DEBUG"][min(verbose, 2)]
    return (
        "[logging]\n"
        f"workflow_level = {level}\nutils_level = {level}\ninterface_level = {level}\n"
        "log_to_file = false\n"
        "[execution]\ncheck_version = false\n"
    )
