"""ace_ref: a compact reference trainer for ACE, on the shards of ltdata.

ACE is Cai, Wang, Hwang, "ACE: Ally Complementary Experts for Solving Long-Tailed Recognition in One-Shot",
ICCV 2021. One room per noun: `planner` (who learns which classes), `resnet` (trunk and experts), `loss`,
`optimizer`, `aggregation` (how experts vote), `dataset` (shards to batches), `recipe`, `train`, `evaluate`.
"""
