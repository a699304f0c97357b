"""What two CPU cores can have: a pretrained EfficientNet-Lite2, AdamW, three cycles of Lovász hinge, folds by depth.

Hypothesis: ImageNet weights, AdamW, a moving average of the weights and the Lovász hinge on mask and complement bring
            what longer training brings elsewhere; ImageNet weights alone were worth 0.057 to others (U-ResNet34).
            Scaled and rotated samples, stochastic depth and weight decay let it train for 34 epochs without
            memorising its tiles.
Command:    python launch.py pipeline --experiment experiments/two_cores.py
Cost:       2 h 05 min a fold with one thread on a core of its own (fold 0, n = 1). Two folds train at a time, so about
            6 hours for five on two cores, estimated. On one GPU 15 minutes, estimated from the 1,030 tiles/s that the
            baseline's network reached on an H100, with Resources() instead of cpus_per_fold.
Score:      fold 0: 0.8208 in epoch 29, which that score chose; LOG.md beside this file.
"""

from salt_ray.config import (
    AdamW,
    Augmentation,
    Cosine,
    Experiment,
    Folds,
    Network,
    OneCycle,
    Resources,
    Scse,
    Stage,
    Training,
)

PIXELS = Stage(
    name="pixels",
    epochs=10,
    batch_size=16,
    lr=0.001,
    pixel_bce_weight=1.0,
    lovasz_weight=0.25,
    lovasz="symmetric",
    bce_weight=0.02,
    schedule=OneCycle(warmup_epochs=1.0, min_lr=0.0005),
    optimizer=AdamW(weight_decay=0.05),
    clip_norm=5.0,
    average=0.995,
)
#: Three cycles from the learning rate at which the first stage ends.
LOVASZ = PIXELS.replace(
    name="lovasz",
    epochs=24,
    lr=0.0005,
    pixel_bce_weight=0.1,
    lovasz_weight=1.0,
    schedule=Cosine(epochs_per_cycle=8, min_lr=0.0, snapshots=3),
)


def experiment() -> Experiment:
    return Experiment(
        name="two_cores",
        precision="fp32",  # bf16 is no faster for it on two cores with AMX, and compiling neither (LOG.md)
        augmentation=Augmentation(scale_limit=0.2, rotate_limit=10.0, affine_probability=0.7),
        network=Network(
            encoder="tf_efficientnet_lite2",
            normalise=True,
            drop_path=0.2,
            decoder=Scse(widths=(96, 64, 48, 32, 16), pyramid_widths=(16, 16, 16, 16, 16)),
            mask_head_width=16,
        ),
        trainings=(Training(name="random", folds=Folds(kind="depth", count=5), stages=(PIXELS, LOVASZ)),),
        resources=Resources(cpus_per_fold=1),  # two folds at a time, each with a core
    )
