"""What two CPU cores can have: a pretrained EfficientNet-Lite2, AdamW and one cycle, five folds by depth.

Hypothesis: ImageNet weights, AdamW, a moving average of the weights and the Lovász hinge on mask and complement bring
            what longer training brings elsewhere; ImageNet weights alone were worth 0.057 to others (U-ResNet34).
Command:    python launch.py pipeline --experiment experiments/two_cores.py
Cost:       5 folds x 24 epochs at 135 s (134 to 138, n = 9, fold 0): 4.5 hours on two cores, of which fold 0 was run.
            On one GPU 10 minutes, estimated from the 1,030 tiles/s that the Argus network reached on an H100, with
            Resources() instead of cpus_per_fold.
Score:      fold 0: 0.8151 in epoch 15, which that score chose; LOG.md beside this file.
"""

from salt_ray.config import AdamW, Experiment, Folds, Network, OneCycle, Resources, Scse, Stage, Training

PIXELS = Stage(
    name="pixels",
    epochs=10,
    batch_size=16,
    lr=0.001,
    pixel_bce_weight=1.0,
    lovasz_weight=0.25,
    lovasz="symmetric",
    bce_weight=0.1,
    schedule=OneCycle(warmup_epochs=1.0, min_lr=0.0005),
    optimizer=AdamW(),
    clip_norm=5.0,
    average=0.995,
)
#: The second half of the cycle: from where the first one ends.
LOVASZ = PIXELS.replace(
    name="lovasz",
    epochs=14,
    lr=0.0005,
    pixel_bce_weight=0.1,
    lovasz_weight=1.0,
    schedule=OneCycle(warmup_epochs=0.0),
)


def experiment() -> Experiment:
    return Experiment(
        name="two_cores",
        precision="fp32",  # bf16 is no faster for it on two cores with AMX, and compiling neither (LOG.md)
        network=Network(
            encoder="tf_efficientnet_lite2",
            normalise=True,
            decoder=Scse(widths=(96, 64, 48, 32, 16), pyramid_widths=(16, 16, 16, 16, 16)),
            mask_head_width=16,
        ),
        trainings=(Training(name="random", folds=Folds(kind="depth", count=5), stages=(PIXELS, LOVASZ)),),
        resources=Resources(cpus_per_fold=2),  # one fold after the other, each with both cores
    )
