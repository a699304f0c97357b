"""The Argus baseline's second training: six folds that keep every mosaic whole, stage 1 only.

Hypothesis: a fold that holds no neighbours of its training tiles scores lower than a random one, and more like the test
            tiles; its models, divided along other lines, add to the average of those on folds by depth.
Command:    python launch.py pipeline --experiment experiments/mosaic_folds.py
            with --set trainings.mosaic.folds.checkpoint=PATH (or s3://BUCKET/KEY, of a best.pt), lone tiles join
            folds by what a trained encoder says
Cost:       6 folds x up to 700 epochs x 3,267 tiles x 192 GFLOP; about 2.6 EFLOP when no fold stops early.
Score:      not yet measured with ImageNet weights on a GPU; see README.md beside this file.
"""

from experiments.random_folds import STAGE_1
from experiments.random_folds import experiment as parent
from salt_ray.config import Experiment, Folds, Training


def experiment() -> Experiment:
    training = Training(name="mosaic", folds=Folds(kind="mosaic", count=6), stages=(STAGE_1,))
    return parent().replace(name="mosaic_folds", trainings=(training,))
