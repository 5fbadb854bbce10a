"""What pages share: one style, everything in one file, nothing fetched, all text escaped."""

import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

HERE = Path(__file__).parent


def render_page(template: str, *, title: str, script: str | None = None, **content: Any) -> str:
    """The HTML of a page; `template` and `script` are names of files beside this one.

    The page's policy lets no script or style in but ours, and nothing be fetched.
    """
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined
    )
    environment.filters |= {"duration": duration, "markdown": markdown}
    style = HERE.joinpath("style.css").read_text("utf-8")
    code = HERE.joinpath(script).read_text("utf-8") if script else ""
    allowed = f"script-src {_hash(code)}" if script else "script-src 'none'"
    return environment.get_template(template).render(
        **content,
        title=title,
        style=Markup(style),  # noqa: S704 - ours, not a user's
        script=Markup(code),  # noqa: S704
        security_policy=f"default-src 'none'; img-src data:; style-src {_hash(style)}; {allowed}",
    )


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


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
