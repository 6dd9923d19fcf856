"""What the report of the vision suite asks: whether a system of convolutional networks is replaced by vision transformers."""

from __future__ import annotations

from aieng_bench.report.declare import Claim, Module, Pair

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
    claims=(
        Claim("a small CNN with augmentation reads the digits", "vision/digits", "resnet", 0.995),
        Claim("so does a ViT from scratch, nearly", "vision/digits", "vit_aieng", 0.985),
        Claim("a CNN as teacher helps a ViT (arXiv:2012.12877)", "vision/distillation", "deit_hard_aieng", 0.0, than="vit_torch"),
        Claim(
            "a hard teacher is better than a soft one (arXiv:2012.12877)",
            "vision/distillation",
            "deit_hard_aieng",
            0.0,
            than="deit_soft_aieng",
        ),
        Claim("CLIP names the kind from a prompt", "vision/clip", "clip_aieng", 0.95),
        Claim("CLIP is as good as a ViT told the kinds", "vision/clip", "clip_aieng", 0.0, than="supervised_torch"),
        Claim(
            "LoRA is within a point of full fine-tuning (arXiv:2106.09685)",
            "vision/transfer",
            "lora_aieng",
            -0.01,
            than="full_torch",
        ),
        Claim("transfer is better than to begin anew", "vision/transfer", "full_torch", 0.0, than="scratch_torch"),
        Claim(
            "self-distilled features beat raw pixels (arXiv:2304.07193)",
            "vision/self_supervised",
            "dinov2_aieng",
            0.0,
            than="pixels",
        ),
        Claim(
            "contrastive features beat raw pixels (arXiv:2002.05709)", "vision/self_supervised", "simclr_aieng", 0.0, than="pixels"
        ),
        Claim("early convolutions help a ViT (arXiv:2106.14881)", "vision/patches", "stem_aieng", 0.0, than="linear_aieng"),
        Claim("a ViT needs to be told positions", "vision/positions", "learned_aieng", 0.0, than="none_aieng"),
        Claim(
            "shifted windows help small images too (arXiv:2103.14030)", "vision/architectures", "swin_aieng", 0.0, than="vit_aieng"
        ),
        Claim("an encoder-decoder learns to reverse and to sort", "vision/sequences", "transformer_aieng", 0.99),
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
