"""What an export says of itself beside its rows: the header's fields, as JSON, under the manifest's own names."""

import json
from collections.abc import Mapping
from typing import Any

from ltdata.errors import MismatchError
from ltdata.manifest import Manifest
from ltdata.samples import Samples, content_digest

_TEXTS = ("name", "content_sha256")
_OBJECTS = ("source", "protocol", "group_rule")
_LISTS = {"class_groups": int, "class_names": str, "superclass_names": str, "citation": str}
_MOST_LEVELS = 100  # a subset's protocol holds that of what it is a subset of; no JSON can be written at any depth
KEYS = (*_TEXTS, *_OBJECTS, *_LISTS)


def about(manifest: Manifest, rows: Mapping[str, Samples]) -> dict[str, Any]:
    """Return the fields of a header that go along with some of its splits; the digest is that of those splits."""
    record = json.loads(manifest.to_json())
    record["content_sha256"] = content_digest(str(manifest.source["id"]), rows)
    return {key: record[key] for key in KEYS if key in record}


def about_json(manifest: Manifest, rows: Mapping[str, Samples]) -> str:
    """Write `about` as JSON text."""
    return json.dumps(about(manifest, rows), ensure_ascii=False)


def about_from_json(text: str | bytes, origin: str) -> dict[str, Any]:
    """Read what a file says of itself.

    Raises:
        MismatchError: it is not readable, or see `checked`.
    """
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MismatchError(f"{origin}: what it says of itself is not readable as JSON ({error})") from error
    return checked(record, origin)


def checked(record: object, origin: str) -> dict[str, Any]:
    """Return a header's fields out of a record, after checking their types; other fields are left out.

    Raises:
        MismatchError: it is no object, or a field is of another type.
    """
    if not isinstance(record, dict):
        raise MismatchError(f"{origin}: what it says of itself is no JSON object; export it again")
    found = {key: record[key] for key in KEYS if key in record}
    if _is_deep(found, _MOST_LEVELS):
        raise MismatchError(f"{origin}: what it says of itself is nested more than {_MOST_LEVELS} deep; mend it")
    for key, value in found.items():
        kind: type = str if key in _TEXTS else dict if key in _OBJECTS else list
        fits = isinstance(value, kind)
        if fits and key in _LISTS:
            fits = all(isinstance(item, _LISTS[key]) and not isinstance(item, bool) for item in value)
        if key == "source":
            fits = fits and isinstance(value.get("id"), str)
        if key == "protocol":
            fits = fits and isinstance(value.get("name"), str) and isinstance(value.get("params"), dict)
        if not fits:
            raise MismatchError(f"{origin}: says of itself {key} {str(value)[:40]!r}, which cannot be; export it again")
    try:
        json.dumps(found, ensure_ascii=False).encode()  # a lone surrogate could not be written again
    except UnicodeEncodeError as error:
        raise MismatchError(f"{origin}: what it says of itself is not UTF-8 ({error.reason}); mend it") from error
    return found


def _is_deep(value: object, levels: int) -> bool:
    """Tell whether objects and lists lie in each other more than so many levels deep."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels < 0 or any(_is_deep(each, levels - 1) for each in inner)
