"""The Argus baseline's first training with scSE gates and a hypercolumn in place of the FPN blocks.

Hypothesis: the FPN's 3x3 convolutions (37 of 58 GFLOP a tile) buy nothing that gates and a wider hypercolumn do not;
            others measured +0.004 to +0.010 for such a decoder (method section 7).
Command:    python launch.py pipeline --experiment experiments/random_folds_scse.py
Cost:       22 GFLOP a tile forward against 58 (62.6 M parameters become 35.4 M).
Score:      not yet measured with ImageNet weights on a GPU; such a decoder in the demo: 0.5946 ± 0.0334 out of fold,
            where the FPN has 0.6131 ± 0.0187 (three seeds).
"""

from experiments.random_folds import experiment as parent
from salt_ray.config import Experiment, Scse


def experiment() -> Experiment:
    argus = parent()
    network = argus.network.replace(decoder=Scse(pyramid_widths=(64, 64, 64, 64, 64)))
    return argus.replace(name="random_folds_scse", network=network)
