"""Import of shards: the images of another tool's tar files become a build of ltdata, checked and rewritten.

The result is what `ltdata build` writes: a series per shot group, rows, index, the manifest last, and the same bytes
for any number of workers. A row names its image by its path, ``shard.tar/member``; the manifest has the digest of every
shard.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tqdm import tqdm

from ltdata import __version__, engine, output, pinned
from ltdata.build import Built, write_images
from ltdata.errors import UsageError
from ltdata.formats.importing import names_in_file, word_of
from ltdata.manifest import Manifest, check_name, describe_rule, make_split
from ltdata.reader import closing_pool
from ltdata.samples import Samples, content_digest
from ltdata.sources import Source, tars
from ltdata.sources.tar_samples import TarSamples, read
from ltdata.sources.tars import CLASSES_NAME, Tar


def import_tars(
    path: Path,
    *,
    out: Path,
    name: str | None = None,
    group_rule: str | None = None,
    classes: Path | None = None,
    label_key: str | None = None,
    workers: int = 1,
    force: bool = False,
    progress: bool = False,
) -> Built:
    """Rewrite the shards of another tool into a folder.

    Args:
        path: a .tar file, or a folder of some; see `ltdata.sources.tars`.
        out: the folder to write.
        name: of the data set; None: the folder's or the file's.
        group_rule: one of `ltdata.groups.RULES`; None: ``strict``.
        classes: file with a class name per line, label 0 first; None: ``classnames.txt`` beside the shards, if any.
        label_key: of the label in ``json``; None: ``cls``, else label, class, cls or target in ``json``.
        workers: threads that read shards, and processes that write them.
        force: replace a build that stands there.
        progress: show bars on a terminal.

    Raises:
        UsageError: a value cannot be meant, or something stands there.
        SourceMissingError: there are no shards, none for training, or one cannot be read.
        MismatchError: a shard is not what this reads; names shard and sample.
        OutputError: the folder cannot be written.
    """
    engine.check_workers(workers)
    if name is not None and check_name(name) in pinned.names():
        raise UsageError(f"--name {name}: is the name of a pinned split with other content; choose another")
    found = tars.find(path)
    name = name or (word_of(path) if word_of(path) not in pinned.names() else f"{word_of(path)}-import")
    folder = output.resolve(out)
    if path.is_dir() and folder.is_relative_to(path.resolve()):
        raise UsageError(f"{folder}: lies among the shards that are read; choose another --out")
    if classes is None and (path / CLASSES_NAME).is_file():
        classes = path / CLASSES_NAME
    class_names = names_in_file(classes) if classes is not None else ()
    with (
        output.new_folder(folder, force=force, keep=(path, classes)) as staging,
        engine.start(workers) as crew,
    ):
        samples = _read(found, label_key, workers, progress=progress)
        source = tars.source_of(path, found, samples, label_key=label_key, class_names=class_names)
        rows = {split: Samples(part.labels, source_path=part.paths) for split, part in source.splits.items()}
        stored = {split: part.images for split, part in source.splits.items() if part.images is not None}
        manifest = _manifest(source, rows, name, group_rule or "strict")
        manifest = write_images(manifest, rows, stored, staging, crew=crew, seed=0, progress=progress)
    return Built(folder, manifest, reused=False)


def _read(tars: Sequence[Tar], label_key: str | None, workers: int, *, progress: bool) -> list[TarSamples]:
    """Read all shards, several at a time: hashing and reading let other threads run."""
    found: list[TarSamples] = []
    pool = ThreadPoolExecutor(workers)
    total = sum(tar.place.stat().st_size for tar in tars)
    shown = None if progress else True
    with tqdm(total=total, unit="B", unit_scale=True, desc="read shards", disable=shown) as bar, closing_pool(pool):
        one, places = partial(read, label_key=label_key), [tar.place for tar in tars]
        for each in pool.map(one, places) if workers > 1 else map(one, places):
            found.append(each)
            bar.update(each.bytes)
    return found


def _manifest(source: Source, rows: dict[str, Samples], name: str, group_rule: str) -> Manifest:
    num_classes = len(source.class_names)
    return Manifest(
        name=name,
        source=source.provenance,
        protocol={"name": "import", "version": 1, "params": {"format": "webdataset"}},
        group_rule=describe_rule(group_rule),
        class_names=source.class_names,
        splits={split: make_split(split, samples, num_classes=num_classes) for split, samples in rows.items()},
        content_sha256=content_digest(source.id, rows),
        created_by={"ltdata": __version__},
        samples=rows,
    )
