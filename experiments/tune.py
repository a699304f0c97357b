"""A search for loss weights and plateau settings around the Argus baseline's stage 1, judged on fold 0.

Hypothesis: Argus tuned these by hand on one network; a search finds settings that are at least as good.
Command:    python launch.py tune
            --set tune.parameters.encoder.on=true also searches the encoder, and so on for the others below
            --set tune.folds=all judges by the mean of all five folds
            --set tune.confirm=1 trains the best settings and its own on fold 1, which chose neither
Cost:       50 trials of at most 700 epochs x 3,136 tiles x 192 GFLOP; pruned ones end after 40, 120 or 360 epochs.
Score:      not yet measured with ImageNet weights on a GPU; see README.md beside this file.
"""

from experiments.random_folds import experiment as parent
from salt_ray.config import Choice, Experiment, FloatRange, IntRange, Tune

STAGES = "trainings.all.stages.all"
PARAMETERS = (
    FloatRange(name="lovasz_weight", fields=(f"{STAGES}.lovasz_weight",), low=0.1, high=1.0),
    FloatRange(name="bce_weight", fields=(f"{STAGES}.bce_weight",), low=0.02, high=1.0, log=True),
    FloatRange(name="lr", fields=(f"{STAGES}.lr",), low=0.001, high=0.1, log=True),
    IntRange(name="patience", fields=(f"{STAGES}.schedule.patience",), low=5, high=60),
    FloatRange(name="factor", fields=(f"{STAGES}.schedule.factor",), low=0.3, high=0.9),
    FloatRange(name="min_lr", fields=(f"{STAGES}.schedule.min_lr",), low=1e-9, high=1e-3, log=True),
    IntRange(name="early_stopping", fields=(f"{STAGES}.early_stopping",), low=50, high=200, on=False),
    Choice(name="batch_size", fields=(f"{STAGES}.batch_size",), values=(12, 16, 24, 32, 48), on=False),
    Choice(name="optimizer", fields=(f"{STAGES}.optimizer.kind",), values=("sgd", "adamw"), on=False),
    Choice(name="lovasz", fields=(f"{STAGES}.lovasz",), values=("hinge", "symmetric"), on=False),
    Choice(name="average", fields=(f"{STAGES}.average",), values=(0.0, 0.98, 0.995, 0.999), on=False),
    Choice(name="normalise", fields=("network.normalise",), values=(False, True), on=False),
    FloatRange(name="dropout", fields=("network.decoder.dropout",), low=0.0, high=0.5, on=False),
    FloatRange(
        name="augmentation",
        fields=("augmentation.brightness_limit", "augmentation.contrast_limit"),
        low=0.0,
        high=0.5,
        on=False,
    ),
    Choice(
        name="encoder",
        fields=("network.encoder",),
        values=("seresnext50_32x4d", "resnet34", "resnext50_32x4d", "efficientnet_b3", "convnext_tiny"),
        on=False,
    ),
)


def experiment() -> Experiment:
    return parent().replace(name="tune", tune=Tune(parameters=PARAMETERS))
