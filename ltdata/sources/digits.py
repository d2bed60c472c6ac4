"""Digits: scikit-learn's 1,797 handwritten digits (UCI, Alpaydin and Kaynak, 1998), no network needed.

The images are 8x8 with 17 grey levels; here each pixel becomes a 4x4 block of RGB, 0-255. They have no test
set of their own, so a balanced one (30 per class) is held out with a fixed seed: it is the same for every
split. The training part, 1,497 images in their original order, has 144 to 153 images per class.
"""

import numpy as np

from ltdata.errors import MismatchError, SourceMissingError, UsageError
from ltdata.files import sha256_bytes
from ltdata.images import Pixels
from ltdata.sources.source import Source, SourceSplit, Where, refuse_lists

_SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
_TEST_PER_CLASS = 30
_TEST_SEED = 0
_SCALE = 4
_MAX_LEVEL = 16


def load_digits(where: Where) -> Source:
    """Read the digits out of the installed scikit-learn; see `load_source`."""
    refuse_lists(where, "digits")
    if where.data_dir is not None or where.unverified:
        raise UsageError("digits: they come with scikit-learn; leave out --data-dir and --unverified")
    try:
        from sklearn.datasets import load_digits as sklearn_digits
    except ModuleNotFoundError:  # not one that cannot be loaded, for want of memory
        raise SourceMissingError(
            "digits: they come with scikit-learn; install it with: pip install 'ltdata[demo]'"
        ) from None
    bunch = sklearn_digits()
    levels = bunch.images.astype(np.uint8)
    labels = bunch.target.astype(np.int64)
    digest = sha256_bytes(levels.tobytes() + labels.astype(np.uint8).tobytes())
    if digest != _SHA256:
        raise MismatchError(f"digits: this scikit-learn's have SHA-256 {digest}, expected {_SHA256}; reinstall it")
    grey = ((levels.astype(np.uint16) * 255 + _MAX_LEVEL // 2) // _MAX_LEVEL).astype(np.uint8)
    large = grey.repeat(_SCALE, axis=1).repeat(_SCALE, axis=2)
    pixels = np.repeat(large[..., None], 3, axis=3)
    rng = np.random.RandomState(_TEST_SEED)
    held_out = np.concatenate(
        [rng.permutation(np.flatnonzero(labels == label))[:_TEST_PER_CLASS] for label in range(10)]
    )
    is_test = np.zeros(len(labels), dtype=bool)
    is_test[held_out] = True
    return Source(
        id="digits",
        class_names=tuple(str(name) for name in bunch.target_names),
        splits={
            "train": SourceSplit(labels[~is_test], Pixels(pixels[~is_test])),
            "test": SourceSplit(labels[is_test], Pixels(pixels[is_test])),
        },
        provenance={
            "id": "digits",
            "version": f"1,797 images at 32x32, {_TEST_PER_CLASS} per class held out with seed {_TEST_SEED}",
            "urls": ["https://archive.ics.uci.edu/dataset/80"],
            "checksums": {"images+labels, uint8": f"sha256:{_SHA256}"},
            "terms": "CC BY 4.0",
            "verified": True,
        },
        citation=("Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998",),
    )
