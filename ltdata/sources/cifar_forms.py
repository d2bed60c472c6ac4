"""The published forms of CIFAR-10 and CIFAR-100: archives, folders, files, and the digests to meet."""

from collections.abc import Mapping
from dataclasses import dataclass

HOME = "https://www.cs.toronto.edu/~kriz/"


@dataclass(frozen=True)
class Layout:
    """Describe one published form: its archive, its folder, its files and their digests.

    Attributes:
        archive: file name of the published archive.
        archive_digest: ``sha256:...``, as Keras, TensorFlow Datasets and others pin it.
        folder: name of the folder inside it.
        digests: published digest by file name; torchvision's md5 for the pickles, torchvision-ruby's SHA-256
            for the binary files (those of CIFAR-100 were recomputed from the images and agree).
        names_file: the file with the class names.
    """

    archive: str
    archive_digest: str
    folder: str
    digests: Mapping[str, str]
    names_file: str


@dataclass(frozen=True)
class Cifar:
    """Describe one of the two data sets.

    Attributes:
        id: ``cifar10`` or ``cifar100``.
        num_classes: 10 or 100.
        train_files: stems of the training files, in order; a binary file adds ``.bin``.
        test_files: stems of the test files.
        labels_key: of the labels in the pickles.
        names_key: of the class names in the pickled names file.
        label_bytes: bytes before each image of a binary record; the last is the class label.
        names_sha256: of the class names, joined by LF.
        python: the pickled form.
        binary: the binary form.
    """

    id: str
    num_classes: int
    train_files: tuple[str, ...]
    test_files: tuple[str, ...]
    labels_key: bytes
    names_key: bytes
    label_bytes: int
    names_sha256: str
    python: Layout
    binary: Layout


CIFAR10 = Cifar(
    id="cifar10",
    num_classes=10,
    train_files=tuple(f"data_batch_{part}" for part in range(1, 6)),
    test_files=("test_batch",),
    labels_key=b"labels",
    names_key=b"label_names",
    label_bytes=1,
    names_sha256="bb3914949cecedee6d1257f7f5fdb8f43fa3b2c8095fd1763161caf1b873fe59",
    python=Layout(
        archive="cifar-10-python.tar.gz",
        archive_digest="sha256:6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        folder="cifar-10-batches-py",
        digests={
            "data_batch_1": "md5:c99cafc152244af753f735de768cd75f",
            "data_batch_2": "md5:d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "md5:54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "md5:634d18415352ddfa80567beed471001a",
            "data_batch_5": "md5:482c414d41f54cd18b22e5b47cb7c3cb",
            "test_batch": "md5:40351d587109b95175f43aff81a1287e",
            "batches.meta": "md5:5ff9c542aee3614f3951f8cda6e48888",
        },
        names_file="batches.meta",
    ),
    binary=Layout(
        archive="cifar-10-binary.tar.gz",
        archive_digest="sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        folder="cifar-10-batches-bin",
        digests={
            "data_batch_1.bin": "sha256:cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
            "data_batch_2.bin": "sha256:a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
            "data_batch_3.bin": "sha256:bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
            "data_batch_4.bin": "sha256:014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
            "data_batch_5.bin": "sha256:755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
            "test_batch.bin": "sha256:8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
        },
        names_file="batches.meta.txt",
    ),
)

CIFAR100 = Cifar(
    id="cifar100",
    num_classes=100,
    train_files=("train",),
    test_files=("test",),
    labels_key=b"fine_labels",
    names_key=b"fine_label_names",
    label_bytes=2,
    names_sha256="fbe8ad23bbaf24969898a386833b49c3aaf6ad1119d43f7b41cdea1b3416d578",
    python=Layout(
        archive="cifar-100-python.tar.gz",
        archive_digest="sha256:85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
        folder="cifar-100-python",
        digests={
            "train": "md5:16019d7e3df5f24257cddd939b257f8d",
            "test": "md5:f0ef6b0ae62326f3e7ffdfab6717acfc",
            "meta": "md5:7973b15100ade9c7d40fb424638fde48",
        },
        names_file="meta",
    ),
    binary=Layout(
        archive="cifar-100-binary.tar.gz",
        archive_digest="sha256:58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        folder="cifar-100-binary",
        digests={
            "train.bin": "sha256:f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29",
            "test.bin": "sha256:d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a",
        },
        names_file="fine_label_names.txt",
    ),
)
