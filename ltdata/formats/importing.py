"""Import: a split of anyone's becomes a manifest, every row checked against what is known of its source."""

import re
from dataclasses import replace
from pathlib import Path

from ltdata import __version__, pinned
from ltdata.build import write_rows
from ltdata.errors import MismatchError, UsageError
from ltdata.files import read_bytes, sha256_file
from ltdata.formats.foreign import Foreign
from ltdata.formats.known import POSITIONED
from ltdata.formats.reading import read
from ltdata.formats.taken import Taken, checked, of_any, of_official, of_positions
from ltdata.lists import printable
from ltdata.manifest import Manifest, check_imbalance, check_name, describe_rule, is_name, make_split
from ltdata.output import new_folder
from ltdata.samples import content_digest
from ltdata.sources.official import OFFICIAL

_CLAIMS = ("name", "source", "protocol", "citation")  # taken over only beside a digest that is that of the rows
_CHECKED = ("verified", "lists")  # of a source: said by who compared, never taken over


def import_(
    path: Path,
    *,
    source: str | None = None,
    name: str | None = None,
    group_rule: str | None = None,
    data_dir: Path | None = None,
    classes: Path | None = None,
    unverified: bool = False,
) -> Manifest:
    """Read anyone's split, check it, and make a manifest with rows of it; no image is touched.

    A file that says of itself what it is, with the digest of its rows (an export of ltdata), comes back as it was,
    but for what was verified, which is found anew; without that digest, what it says is kept as ``claims`` of the
    protocol ``import``. A pinned split's name is kept for its content. Else: positions of CIFAR get
    their labels from the source, or, where its files are not here, from the pinned splits, and a CIFAR list without a
    test split gets the source's; paths of an official list are written as that list has them; a split with the
    content of a pinned one takes its name and protocol; any other has the protocol ``import``, which says what was
    read and what its labels were compared with.

    Args:
        path: a file or folder, see `ltdata.formats.read`.
        source: id of the source; None where the file says it.
        name: of the split; None: the file's own, a pinned split's, or one made of the file's name.
        group_rule: one of `ltdata.groups.RULES`; None: the file's, else ``strict``.
        data_dir: of the source's images, to compare with.
        classes: file with a class name per line, of a source that is not ltdata's.
        unverified: accept source files without the published digest.

    Raises:
        SourceMissingError: the file is not there, or labels are needed and known nowhere.
        UsageError: the source is not named, or a value cannot be meant.
        MismatchError: a row is at fault, or labels contradict the source; names file and row.
    """
    foreign = read(path)
    source = _source_id(source, foreign, path)
    for what, word in (("source", source), ("name", name)):
        if word is not None:
            check_name(word, what)
    if "train" not in foreign.splits:
        raise MismatchError(f"{path}: holds {', '.join(foreign.splits)} and no training images; import train along")
    named = names_in_file(classes) if classes is not None else None
    if named is not None and (source in POSITIONED or source in OFFICIAL):
        raise UsageError(f"--classes {classes}: {source} has class names of its own; leave it out")
    splits = {split: checked(part, f"{path}: {split}") for split, part in foreign.splits.items()}
    if source in POSITIONED:
        taken = of_positions(foreign, splits, source, path, data_dir=data_dir, unverified=unverified)
    elif source in OFFICIAL:
        taken = of_official(foreign, splits, OFFICIAL[source], path, data_dir=data_dir)
    else:
        taken = of_any(foreign, splits, source, path, data_dir=data_dir, named=named)
    return _manifest(foreign, taken, source, path, name=name, group_rule=group_rule)


def write_import(manifest: Manifest, out: Path, *, force: bool = False) -> Manifest:
    """Write an imported manifest and its rows into a folder; return it as written.

    Raises:
        UsageError: something stands there.
        OutputError: the folder cannot be written.
    """
    with new_folder(out, force=force) as staging:
        return write_rows(manifest, manifest.rows, staging)


def _source_id(source: str | None, foreign: Foreign, path: Path) -> str:
    said = foreign.about.get("source", {}).get("id")
    if source is None and said is None:
        raise UsageError(f"{path}: does not say where its images come from; name it with --source, such as cifar100")
    if source is not None and said is not None and source != said:
        raise UsageError(f"--source {source}: {path} says that it is of {said}; leave --source out")
    return str(source if source is not None else said)


def names_in_file(path: Path) -> tuple[str, ...]:
    """Read the names of classes, one per line, label 0 first.

    Raises:
        SourceMissingError: the file cannot be read.
        MismatchError: it is not UTF-8 text, or a line is empty.
    """
    try:
        names = tuple(read_bytes(path).decode("utf-8-sig").splitlines())
    except UnicodeDecodeError as error:
        raise MismatchError(f"{path}: not UTF-8 text ({error.reason}); save the class names as UTF-8") from error
    for line, each in enumerate(names, start=1):
        if not each.strip():
            raise MismatchError(f"{path}:{line}: no name; give one class name per line, label 0 first")
    if not names:
        raise MismatchError(f"{path}: is empty; give one class name per line, label 0 first")
    return names


def _manifest(
    foreign: Foreign, taken: Taken, source: str, path: Path, *, name: str | None, group_rule: str | None
) -> Manifest:
    """Make the header: the file's own, a pinned split's, or one that says what was imported."""
    about = foreign.about
    content = content_digest(source, taken.rows)
    if name is not None and _is_anothers(name, content, taken):
        raise UsageError(f"--name {name}: is the name of a pinned split with other content; choose another")
    said = about.get("content_sha256")
    if said is not None and said != content:
        raise MismatchError(f"{path}: says content sha256 {said}, its rows have {content}; export it again")
    rule = group_rule or about.get("group_rule", {}).get("name") or "strict"
    claims = {key: about[key] for key in _CLAIMS if key in about}
    own = claims if said is not None else {}
    origin = own.get("source", taken.provenance)
    splits = {
        split: make_split(split, samples, num_classes=len(taken.class_names)) for split, samples in taken.rows.items()
    }
    imported = {
        "name": "import",
        "version": 1,
        "params": {
            "format": foreign.format,
            "file": printable(path.name),
            **({"sha256": sha256_file(path)} if path.is_file() else {}),
            **taken.params,
            **({"claims": claims} if claims and not own else {}),
        },
    }
    try:
        manifest = Manifest(
            name=name or _name(own.get("name"), content, taken, path),
            source={key: origin[key] for key in origin if key not in _CHECKED}
            | {key: taken.provenance[key] for key in _CHECKED if key in taken.provenance},
            protocol=own.get("protocol") or taken.protocol or imported,
            group_rule=describe_rule(str(rule)),
            class_names=taken.class_names,
            splits=splits,
            content_sha256=content,
            created_by={"ltdata": __version__},
            citation=tuple(own.get("citation", taken.citation)),
            superclass_names=tuple(about.get("superclass_names", taken.superclass_names)),
            samples=taken.rows,
            class_groups=tuple(about["class_groups"]) if "class_groups" in about and group_rule is None else None,
        )
        _ = manifest.groups
        check_imbalance(manifest.protocol, manifest.splits["train"].class_counts)
    except UsageError:
        raise
    except ValueError as error:
        raise MismatchError(f"{path}: what it says of itself does not fit its rows ({error}); mend it") from error
    if "protocol" in own:
        return manifest
    same = next((header for each in pinned.names() if (header := pinned.header(each)).content_sha256 == content), None)
    if same is None:
        return manifest
    return replace(manifest, name=name or same.name, protocol=same.protocol, citation=same.citation)


def _is_anothers(name: str, content: str, taken: Taken) -> bool:
    """Tell whether a name is that of a pinned split with other content, as far as that one's is known."""
    if name not in pinned.names():
        return False
    known = pinned.header(name).content_sha256
    return known != content if known is not None else taken.protocol is None


def _name(own: str | None, content: str, taken: Taken, path: Path) -> str:
    """Name a split as its file does, else after the file; never as a pinned split with other content."""
    words = (own, word_of(path), f"{word_of(path)}-import")
    return next(word for word in words if word and is_name(word) and not _is_anothers(word, content, taken))


def word_of(path: Path) -> str:
    """Name a split after its file, in letters that names may have."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", path.resolve().stem).strip("-._")[:100] or "imported"
