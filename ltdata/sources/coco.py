"""iNaturalist's own files: images and annotations as COCO-style JSON, and the names of classes and superclasses."""

import json
from pathlib import Path
from typing import Any

from ltdata.errors import MismatchError
from ltdata.files import read_bytes
from ltdata.lists import Listed


def read_categories(path: Path, num_classes: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Read class and superclass names from iNaturalist's categories.json.

    Raises:
        SourceMissingError: it cannot be read.
        MismatchError: it is not that file.
    """
    records = parse_json(read_bytes(path), str(path))
    try:
        by_id = {int(record["id"]): (str(record["name"]), str(record["supercategory"])) for record in records}
        if sorted(by_id) != list(range(num_classes)) or len(records) != num_classes:
            raise ValueError(f"ids are not 0 .. {num_classes - 1}")
    except (KeyError, TypeError, ValueError, OverflowError) as error:  # the last: 1e999
        raise MismatchError(f"{path}: not the categories of this data set ({error!r}); fetch it again") from error
    return tuple(by_id[n][0] for n in range(num_classes)), tuple(by_id[n][1] for n in range(num_classes))


def read_coco(data: bytes, *, origin: str) -> Listed:
    """Read the images and labels of a COCO-style JSON file, joined by image id, in the order of its images.

    That order is the one of the list form. Rows are named by their image id.

    Raises:
        MismatchError: it is cut, or see `listed_of`.
    """
    return listed_of(parse_json(data, origin), origin=origin)


def listed_of(record: Any, *, origin: str) -> Listed:
    """Read what `read_coco` does, out of the parsed file.

    Raises:
        MismatchError: images and annotations are out of step; names the first id at fault.
    """
    try:
        label_of: dict[Any, Any] = {}
        for annotation in record["annotations"]:
            image = annotation["image_id"]
            if image in label_of:
                raise MismatchError(f"{origin}: image id {image} is annotated twice; mend the file")
            label_of[image] = annotation["category_id"]
        paths: dict[Any, str] = {}
        for image in record["images"]:
            if image["id"] in paths:
                raise MismatchError(f"{origin}: image id {image['id']} is there twice; mend the file")
            if image["id"] not in label_of:
                raise MismatchError(f"{origin}: image id {image['id']} ({image['file_name']}) has no annotation")
            if not isinstance(image["file_name"], str):
                raise TypeError(f"file_name {image['file_name']!r} of image id {image['id']}")
            paths[image["id"]] = image["file_name"]
    except (KeyError, TypeError) as error:
        raise MismatchError(f"{origin}: not a COCO-style file of images and annotations ({error!r})") from error
    unknown = [image for image in label_of if image not in paths]
    if unknown:
        raise MismatchError(
            f"{origin}: {len(unknown)} annotations name no image of this file, the first image id {unknown[0]}"
        )
    if not paths:
        raise MismatchError(f"{origin}: lists no image; fetch it again")
    return Listed(
        places=tuple(paths.values()),
        targets=tuple([str(label_of[image]) for image in paths]),
        lines=list(paths),
        origin=origin,
        mark=": image id ",
    )


def parse_json(data: bytes, origin: str) -> Any:
    """Parse a JSON file.

    Raises:
        MismatchError: it is not readable.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MismatchError(f"{origin}: not readable as JSON ({error}): cut off? fetch it again") from error
