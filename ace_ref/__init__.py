"""ace_ref: a compact reference trainer for ACE, on the shards of ltdata.

ACE is Cai, Wang, Hwang, "ACE: Ally Complementary Experts for Solving Long-Tailed Recognition in One-Shot",
ICCV 2021. One room per noun: `planner` (who learns which classes), `network` (trunk and experts), `loss`,
`optimizer`, `aggregation` (how experts vote), `dataset` (shards to batches), `recipe`, `trainer` (the loop).
"""

import ctypes
import importlib.util
import os
import sys
from itertools import pairwise

from ltdata import signals

# While `python -m ace_ref.train` imports this package, argv[0] is "-m". It then imports torch, which takes seconds, and
# Ctrl-C is answered in them too.
_command = next((name for flag, name in pairwise(sys.orig_argv) if flag == "-m"), "")
if sys.argv[0] == "-m" and _command.partition(".")[0] == __name__:
    signals.answer(_command)

# torch's threads (libgomp's) spin for long while they wait, and where others use the processor too they take its time
# from each other. Two trainings at once on 2 cores (ResNet-8, batch 64): 103 images/s each, with a short spin 360; one
# alone: 1,040 and 920. Sleeping at once (OMP_WAIT_POLICY=PASSIVE): 450 and 715. To be set before torch is imported.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")

# glibc gives every large block back when it is freed, and the system fills the next one with zeros: a third of the time
# that a batch of 512 small images takes, a twentieth of a training step of ResNet-8 on the CPU. Blocks up to 32 MB
# stay, 256 MB of them at most. (M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of malloc.h; other systems have no mallopt.)
if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt"):
    ctypes.CDLL(None).mallopt(-3, 32 << 20)
    ctypes.CDLL(None).mallopt(-1, 256 << 20)

# A person is at the other end, not a program.
if sys.argv[0] == "-m" and importlib.util.find_spec("torch") is None:
    sys.exit("ace_ref: error: torch is not installed; install it with: pip install 'ltdata[train]'")
