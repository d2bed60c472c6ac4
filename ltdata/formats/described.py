"""Descriptions of a build's files for other tools: a wids index of its shards, a Croissant record of all it has."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ltdata.errors import UsageError
from ltdata.files import published_digest, sha256_bytes
from ltdata.lists import text_fault
from ltdata.manifest import SAMPLES_NAME, Manifest, Shard
from ltdata.reader import read_inside, read_shard, walk
from ltdata.samples import Samples

_CROISSANT = "http://mlcommons.org/croissant/1.0"
_MIME = {"png": "image/png", "jpg": "image/jpeg"}


def wids_bytes(manifest: Manifest, split: str, *, folder: Path | None, out: Path) -> bytes:
    """Write the wids index of a split's shards; their addresses are relative to the index's own place.

    Args:
        manifest: the header.
        split: of it.
        folder: of the build.
        out: where the index will stand.

    Raises:
        UsageError: no shards belong to this manifest.
        MismatchError: a shard is not what the manifest says.
    """
    if folder is None or not manifest.has_images:
        reason = "a view has no shards of its own: name the build" if manifest.view_of else "has no shards: build it"
        raise UsageError(f"{manifest.name}: {reason}, format wids describes shards")
    record = {
        "__kind__": "wids-shard-index-v1",
        "wids_version": 1,
        "name": f"{manifest.name}-{split}",
        "shardlist": [
            {
                "url": quote(_relative(folder, shard.path, out), safe="/:"),
                "md5sum": published_digest("md5", read_shard(folder, shard)),
                "nsamples": shard.num_samples,
                "filesize": shard.bytes,
            }
            for shard in manifest.splits[split].shards
        ],
    }
    return (json.dumps(record, indent=2) + "\n").encode()


def croissant_bytes(manifest: Manifest, rows: Mapping[str, Samples], *, folder: Path | None, out: Path) -> bytes:
    """Write a Croissant 1.0 description of a build: its files with their digests, its classes, rows and images.

    Raises:
        UsageError: the split lies in no folder.
        MismatchError: a shard is not what the manifest says.
    """
    if folder is None:
        raise UsageError(f"{manifest.name}: lies in no folder, format croissant describes files; build it")
    shards = {name: manifest.splits[name].shards for name in rows}
    files = [
        {
            "@type": "cr:FileObject",
            "@id": SAMPLES_NAME,
            "name": SAMPLES_NAME,
            "contentUrl": _relative(folder, SAMPLES_NAME, out),
            "encodingFormat": "application/jsonlines",
            "sha256": sha256_bytes(read_inside(folder, SAMPLES_NAME)),
        },
        *(_shard_file(folder, shard, out) for of_split in shards.values() for shard in of_split),
    ]
    records = [_classes(manifest), _samples(by_path=any(samples.source_path is not None for samples in rows.values()))]
    for name, of_split in shards.items():
        if of_split:
            files += _file_sets(name, of_split, _suffix(folder, of_split[0], rows[name]))
            records += _image_records(name)
    urls = manifest.source.get("urls")
    record = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": _CROISSANT,
        "name": manifest.name,
        "description": f"{manifest.name}: a long-tailed split of {manifest.source['id']}, protocol "
        f"{manifest.protocol['name']}, content sha256 {manifest.content_sha256}",
        "version": f"{manifest.protocol.get('version', 1)}.0.0",
        "license": str(manifest.source.get("terms", "see the source")),
        "citeAs": "; ".join(manifest.citation) or manifest.name,
        **({"url": str(urls[0])} if urls else {}),
        "distribution": files,
        "recordSet": records,
    }
    return (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode()


def _relative(folder: Path, path: str, out: Path) -> str:
    try:
        way = Path(os.path.relpath(folder.resolve() / path, out.resolve().parent)).as_posix()
    except ValueError as error:
        raise UsageError(f"--out {out}: is on another drive than {folder}; name a file on the same one") from error
    fault = text_fault(way)
    if fault:
        raise UsageError(f"--out {out}: the way to {folder} {fault}; name a file inside it, or rename the folder")
    return way


def _suffix(folder: Path, shard: Shard, samples: Samples) -> str:
    """Return the kind of a shard's first image."""
    return next(walk(read_shard(folder, shard), folder, shard, samples)).name.rpartition(".")[2]


def _shard_file(folder: Path, shard: Shard, out: Path) -> dict[str, Any]:
    read_shard(folder, shard)  # nobody is told a digest that the file does not have
    return {
        "@type": "cr:FileObject",
        "@id": shard.path,
        "name": shard.path,
        "contentUrl": _relative(folder, shard.path, out),
        "contentSize": f"{shard.bytes} B",
        "encodingFormat": "application/x-tar",
        "sha256": shard.sha256,
    }


def _file_sets(split: str, shards: tuple[Shard, ...], suffix: str) -> list[dict[str, Any]]:
    """Describe the images and the labels inside the shards of a split."""
    return [
        {
            "@type": "cr:FileSet",
            "@id": f"{split}-{what}-files",
            "containedIn": [{"@id": shard.path} for shard in shards],
            "encodingFormat": mime,
            "includes": includes,
        }
        for what, mime, includes in (
            ("image", _MIME[suffix], [f"*.{each}" for each in _MIME]),
            ("label", "text/plain", ["*.cls"]),
        )
    ]


def _field(name: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"@type": "cr:Field", "@id": name, "dataType": kind, **more}


def _classes(manifest: Manifest) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "classes",
        "dataType": "sc:Enumeration",
        "key": {"@id": "classes/label"},
        "field": [_field("classes/label", "sc:Integer"), _field("classes/name", "sc:Text")],
        "data": [{"classes/label": label, "classes/name": name} for label, name in enumerate(manifest.class_names)],
    }


def _samples(*, by_path: bool) -> dict[str, Any]:
    """Describe the rows."""
    place = ("source_path", "sc:Text") if by_path else ("source_index", "sc:Integer")
    columns = (("split", "sc:Text"), ("label", "sc:Integer"), place)
    return {
        "@type": "cr:RecordSet",
        "@id": "samples",
        "field": [
            _field(f"samples/{name}", kind, source={"fileObject": {"@id": SAMPLES_NAME}, "extract": {"column": name}})
            for name, kind in columns
        ],
    }


def _image_records(split: str) -> list[dict[str, Any]]:
    """Describe the samples of a split: image and label, joined by the key that both files have."""
    labels, images = {"fileSet": {"@id": f"{split}-label-files"}}, {"fileSet": {"@id": f"{split}-image-files"}}
    key = {"extract": {"fileProperty": "filename"}, "transform": {"regex": r"^([0-9]+)\."}}
    content = {"extract": {"fileProperty": "content"}}
    return [
        {
            "@type": "cr:RecordSet",
            "@id": f"{split}-labels",
            "key": {"@id": f"{split}-labels/key"},
            "field": [
                _field(f"{split}-labels/key", "sc:Text", source=labels | key),
                _field(f"{split}-labels/label", "sc:Integer", source=labels | content),
            ],
        },
        {
            "@type": "cr:RecordSet",
            "@id": split,
            "key": {"@id": f"{split}/key"},
            "field": [
                _field(
                    f"{split}/key",
                    "sc:Text",
                    source=images | key,
                    references={"field": {"@id": f"{split}-labels/key"}},
                ),
                _field(f"{split}/image", "sc:ImageObject", source=images | content),
                _field(f"{split}/label", "sc:Integer", source={"field": {"@id": f"{split}-labels/label"}}),
            ],
        },
    ]


# The context that the specification asks for, word by word.
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
