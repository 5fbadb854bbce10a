"""What the words of a command line may be."""

import argparse
import math
import re
from pathlib import Path
from typing import Any

MAX_SEED = 2**32 - 1

_LABEL = re.compile(r"[a-zA-Z0-9+]+")
_MEMORY = re.compile(r"(\d+(?:\.\d*)?)\s*([TGMK]?)B?", re.IGNORECASE)
_GB_PER = {"T": 1e3, "G": 1.0, "": 1.0, "M": 1e-3, "K": 1e-6}


def folder(text: str) -> Path:
    """An absolute path."""
    try:
        return Path(text).expanduser().resolve()
    except (OSError, RuntimeError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be resolved ({error})") from error


def label_of(prefix: str) -> Any:
    """A BIDS label, with or without `prefix` and its dash."""

    def label(text: str) -> str:
        bare = text.removeprefix(f"{prefix}-")
        if not _LABEL.fullmatch(bare):
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a label of letters and digits (folders come before options)"
            )
        return bare

    return label


def integer(least: int, most: int | None = None) -> Any:
    """A whole number within bounds."""

    def number_of(text: str) -> int:
        bounds = f"at least {least}" if most is None else f"from {least} to {most}"
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least or (most is not None and number > most):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, {bounds}")
        return number

    return number_of


def name(text: str) -> str:
    """A folder's name, which must not lead out of the folder it is in."""
    if not re.fullmatch(r"[\w+-][\w.+-]*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name of letters, digits, _ and -")
    return text


def space(text: str) -> str:
    """An output space: ``NAME[:cohort-N][:res-N]``."""
    if not re.fullmatch(r"[A-Za-z0-9]+(:cohort-[A-Za-z0-9]+)?(:res-[0-9]+)?", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a space such as MNI152NLin2009cAsym or MNI152NLin6Asym:res-2"
        )
    return text


def duration(text: str) -> float:
    """``HH:MM:SS`` in seconds."""
    parts = text.split(":")
    if len(parts) == 3 and all(part.isdecimal() for part in parts):
        hours, minutes, seconds = map(int, parts)
        total = 3600 * hours + 60 * minutes + seconds
        if total > 0 and minutes < 60 and seconds < 60:
            return float(total)
    raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 01:30:00")


def gigabytes(text: str) -> float:
    """A size such as 16, 16G or 8000M."""
    match = _MEMORY.fullmatch(text.strip())
    size = float(match[1]) * _GB_PER[match[2].upper()] if match else 0.0
    if not 0 < size < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 16, 16G or 8000M")
    return size
