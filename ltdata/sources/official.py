"""Data sets that their lists define: ImageNet-LT, iNaturalist 2018, Places-LT. What is published about them.

Nobody can draw ImageNet-LT or Places-LT again (a random sample, no published seed): they can only be read from the
lists. The digests are those of the lists as they lie, alike, in many well-known repositories; a list in another
form (other path prefix, flat `val/`, CRLF, no last newline) has the digest once its rows are written in the form
below, which is also how a manifest names the images.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

_BALANCING = (
    "https://raw.githubusercontent.com/facebookresearch/classifier-balancing/"
    "22370c64141cc662f62ead89447c838c4a7977b5/data/"
)
_MISLAS = (
    "https://raw.githubusercontent.com/dvlab-research/MiSLAS/"
    "bb5ba7ead488d7e1a7d4d41f4835e910e52bf9d6/datasets/data_txt/"
)


@dataclass(frozen=True)
class OfficialList:
    """Describe the list of one split.

    Attributes:
        file: its usual name.
        rows: how many.
        blob_sha1: of the file as git has it; None where none is published.
        sha256: of the file, where it is published.
        bytes: of the file.
    """

    file: str
    rows: int
    bytes: int | None = None
    blob_sha1: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Official:
    """Describe a data set that lists define.

    Attributes:
        id: such as ``imagenet-lt``.
        title: as people write it.
        version: of the lists.
        num_classes: C.
        largest: images of the largest training class.
        smallest: of the smallest.
        lists: by split.
        homes: where the lists can be had, each an address that a list's name completes.
        class_of: the class that a path as the list has it names; None where it names none.
        canonical: (path, class name) to the path in the official list.
        places: (path of the official list) to where it may lie under the data folder, commonest first.
        terms: of the images.
        citation: images first.
        notice: what people must be told where images are copied.
        json_files: the competition's own files, by split, that hold the same rows.
        known_paths: what a list with other paths is known as, by the git SHA-1 of its rows.
        known_counts: training images of some classes, by label, where no digest of the list is published.
    """

    id: str
    title: str
    version: str
    num_classes: int
    largest: int
    smallest: int
    lists: Mapping[str, OfficialList]
    homes: tuple[str, ...]
    class_of: Callable[[str], str | None]
    canonical: Callable[[str, str], str]
    places: tuple[Callable[[str], str], ...]
    terms: str
    citation: tuple[str, ...]
    notice: str | None = None
    json_files: Mapping[str, str] = field(default_factory=dict)
    known_paths: Mapping[str, str] = field(default_factory=dict)
    known_counts: Mapping[int, int] = field(default_factory=dict)


def _prefixed(prefix: str) -> Callable[[str], str]:
    return lambda path: prefix + path


def _flat_val(prefix: str) -> Callable[[str], str]:
    """Put validation images of all classes into one folder."""
    return lambda path: f"{prefix}val/{path.rpartition('/')[2]}" if path.startswith("val/") else prefix + path


def _imagenet_class(path: str) -> str | None:
    found = re.search(r"(?:^|/)(n[0-9]{8})[_/][^/]*$", path)
    return found[1] if found else None


def _imagenet_canonical(path: str, class_name: str) -> str:
    file = path.rpartition("/")[2]
    return f"{'val' if file.startswith('ILSVRC2012_val_') else 'train'}/{class_name}/{file}"


IMAGENET_LT = Official(
    id="imagenet-lt",
    title="ImageNet-LT",
    version="Liu et al. 2019, on ILSVRC 2012",
    num_classes=1000,
    largest=1280,
    smallest=5,
    lists={
        "train": OfficialList(
            "ImageNet_LT_train.txt",
            115_846,
            4_658_674,
            "a063f095fcd475db4cf8b0658c4b73955535bbf9",
            "efdbdad4f050237c310b2f354cf95a8b1d7c8d57a63c4ea4bb6bf2bcb012f37f",
        ),
        "val": OfficialList("ImageNet_LT_val.txt", 20_000, 804_172, "3ed3188b2f44829ce2dec1cc27040d8d40984088"),
        "test": OfficialList("ImageNet_LT_test.txt", 50_000, 2_344_500, "76a2fb9749d6cd29e765cc4f8c270f2504131e2f"),
    },
    homes=(_BALANCING + "ImageNet_LT/", _MISLAS),
    class_of=_imagenet_class,
    canonical=_imagenet_canonical,
    places=tuple(
        form(prefix)
        for prefix in ("", "ILSVRC/Data/CLS-LOC/", "Data/CLS-LOC/", "CLS-LOC/")
        for form in (_prefixed, _flat_val)
    ),
    known_paths={"0b447ac5396339be4de1a91cb5b2b8cc7c73fb4b": "flat val/, KaihuaTang's copy"},
    terms="ILSVRC 2012: non-commercial research and education only, access through image-net.org",
    notice="ImageNet's terms forbid passing its images on: these shards are for you alone",
    citation=(
        "Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, IJCV 2015",
        "Liu et al., Large-Scale Long-Tailed Recognition in an Open World, CVPR 2019",
    ),
)


def _inat_class(path: str) -> str | None:
    found = re.search(r"(?:^|/)([0-9]{1,4})/[^/]+$", path)
    return found[1] if found else None


def _inat_canonical(path: str, _class_name: str) -> str:
    return "train_val2018/" + "/".join(path.split("/")[-3:])


INAT18 = Official(
    id="inat18",
    title="iNaturalist 2018",
    version="competition of 2018",
    num_classes=8142,
    largest=1000,
    smallest=2,
    lists={
        "train": OfficialList(
            "iNaturalist18_train.txt", 437_513, 29_804_998, "4accdb7584d2f0a5106c40a33ed6afa392189bcc"
        ),
        "val": OfficialList("iNaturalist18_val.txt", 24_426, 1_677_390, "4c23900857fd0f5adcd4cc0dffef345039eeb05f"),
    },
    homes=(_BALANCING + "iNaturalist18/", _MISLAS),
    class_of=_inat_class,
    canonical=_inat_canonical,
    places=(
        _prefixed(""),
        lambda path: path.removeprefix("train_val2018/"),
        lambda path: "2018/" + path.removeprefix("train_val2018/"),
    ),
    json_files={"train": "train2018.json", "val": "val2018.json"},
    terms="non-commercial research and education only; images are their photographers'",
    notice="iNaturalist's terms forbid passing its images on: these shards are for you alone",
    citation=("Van Horn et al., The iNaturalist Species Classification and Detection Dataset, CVPR 2018",),
)


def _places_class(path: str) -> str | None:
    by_letter = re.search(r"(?:^|/)([a-z])/(\1[^/]*(?:/[^/]+)*)/[^/]+$", path)  # a/apartment_building/outdoor/x.jpg
    if by_letter:
        return by_letter[2].replace("/", "-")
    folder = path.rpartition("/")[0].rpartition("/")[2]
    return folder if folder not in {"val", "val_256", "val_large", "test_256", "test_large", ""} else None


def _places_canonical(path: str, class_name: str) -> str:
    file = path.rpartition("/")[2]
    return f"{'val' if file.startswith('Places365_val_') else 'train'}/{class_name}/{file}"


def _places_by_letter(train: str, val: str) -> Callable[[str], str]:
    """Put an image where the Places365 archives have it: by first letter, variants in inner folders, `val` flat."""

    def place(path: str) -> str:
        found = re.fullmatch(r"(train|val)/([^/]+)/([^/]+)", path)
        if not found:
            return path  # of an unofficial list
        part, class_name, file = found.groups()
        return f"{train}/{class_name[0]}/{class_name.replace('-', '/')}/{file}" if part == "train" else f"{val}/{file}"

    return place


PLACES_LT = Official(
    id="places-lt",
    title="Places-LT",
    version="Liu et al. 2019, on Places365-Standard",
    num_classes=365,
    largest=4980,
    smallest=5,
    lists={  # no digest is published anywhere that could be read: rows, bytes and extreme counts are
        "train": OfficialList("Places_LT_train.txt", 62_500, 2_092_674),
        "val": OfficialList("Places_LT_val.txt", 7_300, 253_480),
        "test": OfficialList("Places_LT_test.txt", 36_500, 1_705_400),
    },
    homes=(),
    class_of=_places_class,
    canonical=_places_canonical,
    places=(
        _prefixed(""),
        _flat_val(""),
        _prefixed("places365_standard/"),
        _places_by_letter("data_256_standard", "val_256"),
        _places_by_letter("data_large_standard", "val_large"),
        _places_by_letter("data_256", "val_256"),
    ),
    known_counts={0: 219, 1: 20, 2: 115, 3: 86, 364: 20},
    terms="Places365: images are their owners', for research and education",
    citation=(
        "Zhou et al., Places: A 10 Million Image Database for Scene Recognition, TPAMI 2018",
        "Liu et al., Large-Scale Long-Tailed Recognition in an Open World, CVPR 2019",
    ),
)

OFFICIAL = {dataset.id: dataset for dataset in (IMAGENET_LT, INAT18, PLACES_LT)}
