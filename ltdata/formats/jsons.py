"""JSON files: plain positions, ours, COCO's, those of BBN and its descendants, those of GLT."""

import json
from collections.abc import Mapping
from typing import Any

from ltdata.errors import MismatchError
from ltdata.formats.about import about, checked
from ltdata.formats.foreign import (
    Foreign,
    ForeignSplit,
    divide,
    in_order,
    integers,
    labels_of,
    labels_of_list,
    split_named,
)
from ltdata.lists import SPLIT_NAMES
from ltdata.manifest import Manifest
from ltdata.samples import Samples
from ltdata.sources.coco import listed_of, parse_json

_PLACES = ("indices", "idx", "index", "dataset", "positions", "paths")
_LABELS = ("labels", "label", "targets")
_PATH_KEYS = ("fpath", "file_name", "path")
_LABEL_KEYS = ("category_id", "image_label", "label")
_FORMS = '[...], {"train": [...], "test": [...]}, {"indices": [...]}, or images and annotations'


def json_bytes(manifest: Manifest, rows: Mapping[str, Samples]) -> bytes:
    """Write splits as JSON: ``train``, ... with positions or paths, ``labels`` with those of each, and ``about``."""
    record = {
        **{name: list(samples.places) for name, samples in rows.items()},
        "labels": {name: samples.labels.tolist() for name, samples in rows.items()},
        "about": about(manifest, rows),
    }
    lines = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in record.items()]
    return ("{" + ",\n".join(lines) + "}\n").encode()


def read_json(data: bytes, *, origin: str, split: str) -> Foreign:
    """Read a JSON file of one of the known forms.

    Raises:
        MismatchError: it is cut, or of another form; names the row at fault.
    """
    record = parse_json(data, origin)
    if isinstance(record, list):
        return Foreign("json", {split: _split(record, None, origin)})
    if not isinstance(record, dict):
        raise MismatchError(f"{origin}: is {record!r:.40}, not {_FORMS}")
    if "images" in record and "annotations" in record:
        listed = listed_of(record, origin=origin)
        labels, names = labels_of_list(listed)
        found = divide(None, listed.places, labels, origin=origin, default=split)
        return Foreign("coco", found, {"class_names": list(names)} if names else {})
    if "annotations" in record:
        return Foreign("bbn", {split: _annotated(record, origin)})
    named = {key: value for key, value in record.items() if key.lower() in SPLIT_NAMES}
    if named:
        return _by_split(record, named, origin)
    return Foreign("json", {split: _object(record, origin)})


def _by_split(record: Mapping[str, Any], named: Mapping[str, Any], origin: str) -> Foreign:
    """Read a file that names splits; each is a list of places, or an object."""
    labels = record.get("labels", {})
    if isinstance(labels, list) and len(named) == 1:
        labels = dict.fromkeys(named, labels)
    if not isinstance(labels, dict):
        raise MismatchError(f"{origin}: labels is no object with a list per split; mend the file")
    glt = all(isinstance(value, dict) for value in named.values())
    splits: dict[str, ForeignSplit] = {}
    for key, value in named.items():
        name, place = split_named(key, origin), f"{origin}: {key}"
        if name in splits:
            raise MismatchError(f"{origin}: two splits mean {name}; take one out")
        splits[name] = _object(value, place) if isinstance(value, dict) else _split(value, labels.get(key), place)
    said = checked(record["about"], origin) if "about" in record else {}
    return Foreign("glt" if glt else "json", in_order(splits), said)


def _object(record: Mapping[str, Any], origin: str) -> ForeignSplit:
    """Read the split of an object: lists of places and labels, or GLT's ``{"label": {path: class}}``."""
    places = [key for key in _PLACES if key in record]
    labels = [key for key in _LABELS if key in record]
    if len(places) == 1:
        return _split(record[places[0]], record[labels[0]] if labels else None, f"{origin}: {places[0]}")
    by_path = record.get("label")
    if not places and isinstance(by_path, dict):
        return ForeignSplit(paths=tuple(by_path), labels=labels_of(list(by_path.values()), origin)[0])
    raise MismatchError(f"{origin}: the keys {', '.join(map(str, record))[:80]!r} are none of a known form: {_FORMS}")


def _split(places: object, labels: object, origin: str) -> ForeignSplit:
    if not isinstance(places, list):
        raise MismatchError(f"{origin}: is {places!r:.40}, not a list of positions or paths; mend the file")
    if labels is not None and (not isinstance(labels, list) or len(labels) != len(places)):
        counted = f"{len(labels)} labels" if isinstance(labels, list) else f"labels are {labels!r:.40}"
        raise MismatchError(f"{origin}: {len(places)} rows, {counted}; mend the file")
    of_labels = integers(labels, f"{origin}: labels", "label") if labels is not None else None
    if places and all(isinstance(place, str) for place in places):
        return ForeignSplit(paths=tuple(places), labels=of_labels)
    return ForeignSplit(positions=integers(places, origin, "index"), labels=of_labels)


def _annotated(record: Mapping[str, Any], origin: str) -> ForeignSplit:
    """Read ``{"annotations": [{"fpath", "category_id"}], "num_classes"}``, as BBN and ACE have it."""
    annotations = record["annotations"]
    if not isinstance(annotations, list):
        raise MismatchError(f"{origin}: annotations is no list; mend the file")
    paths: list[str] = []
    labels: list[object] = []
    for row, annotation in enumerate(annotations, start=1):
        fields = annotation if isinstance(annotation, dict) else {}
        path = next((fields[key] for key in _PATH_KEYS if isinstance(fields.get(key), str)), None)
        label = next((fields[key] for key in _LABEL_KEYS if key in fields), None)
        if path is None or label is None:
            missing = "path (fpath or file_name)" if path is None else "label (category_id or image_label)"
            raise MismatchError(f"{origin}: annotation {row} has no {missing}; mend the file")
        paths.append(path)
        labels.append(label)
    found = integers(labels, f"{origin}: annotations", "label")
    num_classes = record.get("num_classes")
    if isinstance(num_classes, int) and len(found) and found.max() >= num_classes:
        row = int((found >= num_classes).argmax())
        raise MismatchError(f"{origin}: annotation {row + 1}: label {found[row]} is not in 0 .. {num_classes - 1}")
    return ForeignSplit(paths=tuple(paths), labels=found)
