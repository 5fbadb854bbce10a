"""A person's report: one HTML file with everything in it, from the summaries of all sessions."""

import re
from base64 import b64encode
from collections.abc import Hashable, Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from rela_bids.atomic import write_text
from rela_bids.reports.figures import PET_COLOURS, STD_COLOURS
from rela_bids.reports.summary import SessionSummary, read_summaries
from rela_bids.reports.viewer import colour_bar

T = TypeVar("T", bound=Hashable)

HERE = Path(__file__).parent
VERDICTS = {"ok": "passes checks", "warn": "doubtful", "fail": "fails checks"}
BARS = {"mean": PET_COLOURS, "std": STD_COLOURS}


def write_report(path: Path, subject: str, summaries: Sequence[Path]) -> Path:
    """Write the report of a person.

    Parameters
    ----------
    path : the HTML file.
    subject : label without prefix.
    summaries : JSON files of `SessionSummary`, each in one folder with its pictures. One that
        cannot be read is named in the report.

    Raises
    ------
    CannotWriteError
        If the report cannot be written.
    """
    sessions, problems = read_summaries(summaries)
    return write_text(path, render_report(subject, sessions, problems))


def render_report(
    subject: str, sessions: Sequence[tuple[SessionSummary, Path]], problems: Sequence[str] = ()
) -> str:
    """The HTML of a person's report.

    Parameters
    ----------
    sessions : each with the folder of its pictures.
    problems : lines on sessions that cannot be shown.
    """
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined
    )
    environment.filters |= {"duration": duration, "markdown": markdown}
    style, script = (HERE.joinpath(name).read_text("utf-8") for name in ("style.css", "viewer.js"))
    return environment.get_template("subject.html").render(
        subject=subject,
        sessions=sessions,
        problems=problems,
        models=_by_value((item.model, item.label) for item, _ in sessions),
        methods=_by_value((item.methods, item.label) for item, _ in sessions),
        simulated=any(item.model.simulated for item, _ in sessions),
        verdicts=VERDICTS,
        bars={kind: data_uri(colour_bar(colours), "png") for kind, colours in BARS.items()},
        embed=_embedded,
        # Ours, not a user's; the policy lets no other script or style in, and nothing be fetched.
        style=Markup(style),  # noqa: S704
        script=Markup(script),  # noqa: S704
        security_policy=f"default-src 'none'; img-src data:; style-src {_hash(style)}; "
        f"script-src {_hash(script)}",
    )


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _by_value(pairs: Iterable[tuple[T, str]]) -> list[tuple[T, list[str]]]:
    """Each different value once, with the labels of the sessions that have it."""
    labels: dict[T, list[str]] = {}
    for value, label in pairs:
        labels.setdefault(value, []).append(label)
    return list(labels.items())


def _embedded(folder: Path, name: str) -> str:
    """A WebP file as an address with its content, or nothing if it is not there."""
    path = folder / name
    return data_uri(path.read_bytes(), "webp") if path.is_file() else ""


def data_uri(content: bytes, kind: str) -> str:
    """A picture as an address that holds its content.

    >>> data_uri(b"abc", "png")
    'data:image/png;base64,YWJj'
    """
    return f"data:image/{kind};base64,{b64encode(content).decode()}"


def duration(seconds: float) -> str:
    """Seconds as people say them.

    >>> duration(0.24), duration(9.4), duration(125)
    ('0.2 s', '9 s', '2 min 05 s')
    """
    if seconds < 1:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def markdown(text: str, level: int) -> Markup:
    """The little of Markdown that the methods text uses, as HTML.

    Headings, lists, ``*emphasis*``, code and ``<links>``; `level` is that of its headings. The
    first heading is left out, since the page has its own.

    >>> print(markdown("# Methods\\n\\n`x` & *N4*.\\n\\n# References\\n\\n- <https://a.org>", 3))
    <p><code>x</code> &amp; <em>N4</em>.</p>
    <h3>References</h3>
    <ul><li><a href="https://a.org">https://a.org</a></li></ul>
    """
    blocks = []
    for number, block in enumerate(text.strip().split("\n\n")):
        if block.startswith("# "):
            blocks += [] if number == 0 else [f"<h{level}>{_inline(block[2:])}</h{level}>"]
        elif block.startswith("- "):
            items = re.split(r"\n- ", block[2:])
            blocks.append(f"<ul>{''.join(f'<li>{_inline(item)}</li>' for item in items)}</ul>")
        elif block:
            blocks.append(f"<p>{_inline(block)}</p>")
    return Markup("\n".join(blocks))  # noqa: S704 - all text in it went through escape


_INLINE: tuple[tuple[str, str], ...] = (
    (r"`([^`]+)`", r"<code>\1</code>"),
    (r"\*([^*]+)\*", r"<em>\1</em>"),
    (r"&lt;(https?://[^\s&]+)&gt;", r'<a href="\1">\1</a>'),
)


def _inline(text: str) -> str:
    html: Any = str(escape(text))
    for pattern, replacement in _INLINE:
        html = re.sub(pattern, replacement, html)
    return html
