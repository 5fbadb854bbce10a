"""Docstrings here say ``name : what it is``, where numpydoc has the type (autodoc knows types)."""

import re
from typing import Any

from sphinx.application import Sphinx

SECTIONS = {"Parameters", "Attributes", "Inputs", "Outputs"}


def _split(
    _app: Sphinx, _what: str, _name: str, _obj: Any, _options: Any, lines: list[str]
) -> None:
    """``name : what`` to ``name`` and, below it, ``what``, within the sections above."""
    section, result = "", []
    for line, following in zip(lines, [*lines[1:], ""], strict=False):
        if re.fullmatch(r"-{3,}", following.strip()):
            section = line.strip()
        entry = re.fullmatch(r"(\w[\w, ]*) : (.+)", line)
        result += [entry[1], f"    {entry[2]}"] if entry and section in SECTIONS else [line]
    # Bars are absolute values here, not substitutions.
    lines[:] = [line if "`" in line else line.replace("|", r"\|") for line in result]


def setup(app: Sphinx) -> dict[str, bool]:
    """Before napoleon, which is asked at 500."""
    app.connect("autodoc-process-docstring", _split, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
