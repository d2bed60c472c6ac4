"""ace_ref: a compact reference trainer for ACE, on the shards of ltdata.

ACE is Cai, Wang, Hwang, "ACE: Ally Complementary Experts for Solving Long-Tailed Recognition in One-Shot",
ICCV 2021. One room per noun: `planner` (who learns which classes), `resnet` (trunk and experts), `loss`,
`optimizer`, `aggregation` (how experts vote), `dataset` (shards to batches), `recipe`, `train`, `evaluate`.
"""

import importlib.util
import os
import sys

# torch's threads spin while they wait, and on a processor that others use too they take its time from each other:
# measured on 2 busy cores, ResNet-8 trains 4 times as fast when they sleep. It must be set before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# While `python -m ace_ref.train` imports this package, argv[0] is "-m": a person is at the other end, not a program.
if sys.argv[0] == "-m" and importlib.util.find_spec("torch") is None:
    sys.exit("ace_ref: error: torch is not installed; install it with: pip install 'ltdata[train]'")
