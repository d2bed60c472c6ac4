"""What an export says of itself beside its rows: the header's fields, as JSON, under the manifest's own names."""

import json
from collections.abc import Mapping
from typing import Any

from ltdata.errors import MismatchError
from ltdata.manifest import Manifest, Samples, content_digest

KEYS = (
    "name",
    "content_sha256",
    "source",
    "protocol",
    "group_rule",
    "class_groups",
    "class_names",
    "superclass_names",
    "citation",
    "created_by",
)


def about(manifest: Manifest, rows: Mapping[str, Samples]) -> dict[str, Any]:
    """Return the fields of a header that go along with some of its splits; the digest is that of those splits."""
    record = json.loads(manifest.to_json())
    record["content_sha256"] = content_digest(str(manifest.source["id"]), rows)
    return {key: record[key] for key in KEYS if key in record}


def about_from_json(text: str | bytes, origin: str) -> dict[str, Any]:
    """Read what a file says of itself; fields of other names are left out.

    Raises:
        MismatchError: it is no JSON object.
    """
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MismatchError(f"{origin}: what it says of itself is not readable as JSON ({error})") from error
    return checked(record, origin)


def checked(record: object, origin: str) -> dict[str, Any]:
    """Check that a record is an object, and keep the header's fields of it.

    Raises:
        MismatchError: it is not.
    """
    if not isinstance(record, dict):
        raise MismatchError(f"{origin}: what it says of itself is no JSON object; export it again")
    return {key: record[key] for key in KEYS if key in record}
