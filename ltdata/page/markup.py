"""HTML from untrusted text: everything is escaped here, and nowhere else."""

import html
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

_UNSHOWN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")  # HTML and UTF-8 cannot hold all of them
_DIGEST = re.compile(r"(?:[a-z0-9-]+:)?[0-9a-f]{40}(?:[0-9a-f]{24})?")
_MOST_CHARACTERS, _MOST_ENTRIES = 1000, 50  # of one value of a manifest


def clean(value: object) -> str:
    """Return text that a page can hold: control characters and lone surrogates become U+FFFD."""
    return _UNSHOWN.sub("\ufffd", str(value))


def text(value: object) -> str:
    """Escape text for elements and quoted attributes.

    >>> text('<b title="x">')
    '&lt;b title=&quot;x&quot;&gt;'
    """
    return html.escape(clean(value), quote=True)


def name(value: object) -> str:
    """Escape a name, kept apart from the direction of the text around it."""
    return f"<bdi>{text(value)}</bdi>"


def code(value: object) -> str:
    """Escape code or a digest."""
    return f"<code>{text(value)}</code>"


def script_json(value: object) -> str:
    r"""Write JSON for a script element: no tag, comment or line separator of JavaScript can begin in it.

    >>> script_json("</script>")
    '"\\u003c/script\\u003e"'
    """
    written = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        written = written.replace(character, f"\\u{ord(character):04x}")
    return clean(written)


def table(
    head: Iterable[str], rows: Iterable[Iterable[str]], *, caption: str = "", classes: str = "", numbers: int = 1
) -> str:
    """Write a table; its cells are HTML already, the first of a row names it.

    Args:
        head: cells of the head.
        rows: cells of each row.
        caption: HTML.
        classes: of the table.
        numbers: number of the first column of numbers, set to the right.
    """
    heads = list(head)
    kinds = ["" if place < numbers else ' class="number"' for place in range(len(heads))]
    lines = [f'<table class="{text(classes)}">'] + ([f"<caption>{caption}</caption>"] if caption else [])
    lines.append(
        "<thead><tr>"
        + "".join(f'<th scope="col"{kind}>{cell}</th>' for cell, kind in zip(heads, kinds, strict=True))
        + "</tr></thead>\n<tbody>"
    )
    for row in rows:
        first, *others = row
        cells = "".join(
            f'<td{kind} data-label="{text(re.sub("<.*?>", "", title))}">{cell}</td>'
            for cell, kind, title in zip(others, kinds[1:], heads[1:], strict=True)
        )
        lines.append(f'<tr><th scope="row">{first}</th>{cells}</tr>')
    return "\n".join([*lines, "</tbody></table>"])


def described(entries: Iterable[tuple[str, str]]) -> str:
    """Write a list of terms and values; the values are HTML already."""
    return "<dl>" + "\n".join(f"<dt>{text(term)}</dt><dd>{value}</dd>" for term, value in entries) + "</dl>"


def value(found: Any) -> str:
    """Write any value of a manifest: mappings and lists as lists, digests as code, web addresses as links."""
    if isinstance(found, Mapping):
        return described((str(key).replace("_", " "), value(each)) for key, each in _some(found.items()))
    if isinstance(found, list | tuple):
        return "<ul>" + "".join(f"<li>{value(each)}</li>" for each in _some(found)) + "</ul>" if found else "none"
    if found is None or isinstance(found, bool):
        return {None: "n/a", True: "yes", False: "no"}[found]
    if isinstance(found, float):
        return text(f"{found:g}")
    written = str(found) if len(str(found)) <= _MOST_CHARACTERS else f"{str(found)[:_MOST_CHARACTERS]}..."
    if _DIGEST.fullmatch(written):
        return code(written)
    if re.fullmatch(r"https?://[^\s\"'<>]+", written):
        return f'<a href="{text(written)}" rel="noopener noreferrer">{text(written)}</a>'
    return name(written)


def _some(entries: Iterable[Any]) -> list[Any]:
    return list(entries)[:_MOST_ENTRIES]
