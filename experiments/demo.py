"""The whole road in minutes on two CPU cores: a pretrained EfficientNet-Lite0, two folds, eight epochs.

Hypothesis: ImageNet weights, AdamW and one cycle reach in minutes what small networks from random weights do not. The
            learning rate and the weights of the losses are those that a search found on fold 0 (LOG.md).
Command:    python launch.py demo
Cost:       four minutes on two CPU cores.
Score:      0.782 ± 0.004 on the test truth (300 tiles, 3 seeds), 0.785 ± 0.009 out of fold (586), where "all empty" has
            0.377 and from_scratch 0.657 ± 0.004; README.md beside this file.
"""

from salt_ray.config import AdamW, Experiment, Folds, Labels, Network, OneCycle, Scse, Stage, Training


def experiment() -> Experiment:
    stage = Stage(
        name="one_cycle",
        epochs=8,
        batch_size=8,
        lr=0.0022,
        pixel_bce_weight=1.0,
        lovasz_weight=0.426,
        lovasz="symmetric",
        bce_weight=0.02,
        schedule=OneCycle(warmup_epochs=0.5),
        optimizer=AdamW(weight_decay=0.0234),
        clip_norm=5.0,
        average=0.9,
    )
    return Experiment(
        name="demo",
        labels=Labels(full_tiles="empty"),  # the synthetic survey labels the inside of salt as TGS does
        precision="fp32",  # so that its scores do not depend on the processor's units for bf16
        network=Network(
            encoder="tf_efficientnet_lite0",
            normalise=True,
            decoder=Scse(widths=(48, 32, 24, 16, 8), pyramid_widths=(4, 4, 4, 4, 4)),
            mask_head_width=8,
        ),
        trainings=(Training(name="random", folds=Folds(kind="depth", count=2), stages=(stage,)),),
    )
