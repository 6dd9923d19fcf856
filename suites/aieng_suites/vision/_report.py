"""What the report of the vision suite asks: whether a system of convolutional networks is replaced by vision transformers."""

from __future__ import annotations

from aieng_bench.report.declare import Module, Pair

module = Module(
    name="vision",
    title="Modernising a vision system: from a CNN to a vision transformer",
    question=(
        "A system classifies and segments images with convolutional networks. Is a vision transformer, trained from scratch on the "
        "same images by the same recipe, to take their place: in quality, in speed, in memory, and on an edge device?"
    ),
    incumbent="CNN",
    challenger="vision transformer",
    studies=tuple(
        f"vision/{name}"
        for name in (
            "digits",
            "architectures",
            "resolution",
            "segmentation",
            "distillation",
            "transfer",
            "clip",
            "positions",
            "patches",
            "sequences",
            "self_supervised",
            "edge",
        )
    ),
    pairs=(
        Pair("vision/digits", incumbent="resnet", challenger="vit_aieng"),
        Pair("vision/architectures", incumbent="resnet_aieng", challenger="vit_aieng"),
        Pair("vision/architectures", incumbent="convnext_aieng", challenger="swin_aieng"),
        Pair("vision/resolution", incumbent="resnet_torch", challenger="vit_aieng"),
        Pair("vision/segmentation", incumbent="unet", challenger="vit_aieng"),
    ),
    edge="vision/edge",
    limits=(
        "The images are small: scans of 8 x 8 to 32 x 32 pixels, rendered scenes of 32 x 32. What holds at 224 x 224, where "
        "attention costs more and pretraining is usual, is not measured here.",
        "The networks are as small as their parameters say and learn from some thousand images: transformers are known to gain on "
        "convolutional networks with more of either (arXiv:2010.11929, section 4.3).",
        "Nobody searched for the best recipe of each network: a study has one, or one learning rate for each kind of network.",
        "Latency is of one process that has its cores to itself; a loaded server or a device that throttles is another matter.",
    ),
)
