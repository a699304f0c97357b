"""The Argus baseline's first training, stage 1: five folds by depth, Lovász + BCE, plateau schedule.

Hypothesis: the published settings carry over as they are (fold 0 scored 0.8511 at its best epoch).
Command:    python launch.py pipeline --experiment experiments/random_folds.py
Cost:       5 folds x up to 700 epochs x 3,136 tiles x 192 GFLOP; about 2 EFLOP when no fold stops early.
Score:      not yet measured with ImageNet weights on a GPU; see README.md beside this file.
"""

from salt_ray.config import Experiment, Folds, Plateau, Stage, Training

STAGE_1 = Stage(
    name="plateau",
    epochs=700,
    batch_size=24,
    lr=0.01,
    lovasz_weight=0.75,
    bce_weight=0.25,
    schedule=Plateau(patience=30, factor=0.64, min_lr=1e-8),
    early_stopping=100,
)


def experiment() -> Experiment:
    return Experiment(
        name="random_folds",
        trainings=(Training(name="random", folds=Folds(kind="depth", count=5), stages=(STAGE_1,)),),
    )
