"""Encoders for sound, images and video with linear cost, by multi-scale neighborhood attention."""

from typing import TYPE_CHECKING

from eyetoy.lazy import lazy_names

if TYPE_CHECKING:
    from eyetoy.classifier import Classifier
    from eyetoy.encoder import Encoder, Encoder1D, Encoder2D, Encoder3D, EncoderOutput
    from eyetoy.factory import (
        create_encoder,
        create_model,
        create_pyramid,
        encoder_params,
        list_models,
        register_timm_models,
    )
    from eyetoy.flops import count_flops
    from eyetoy.global_stack import (
        GlobalAttentionStack,
        GlobalAttentionTransformer,
        create_attention_mask,
        global_attention,
    )
    from eyetoy.inflation import Inflation, inflated
    from eyetoy.loading import load
    from eyetoy.msnat import (
        MSNATTransformer,
        MSNATTransformer1D,
        MSNATTransformer2D,
        MSNATTransformer3D,
        MultiScaleMultiHeadNA,
        SharedScaleNA,
        TransformerStack,
    )
    from eyetoy.neighborhood import available_backends, na1d, na2d, na3d, neighborhood_attention
    from eyetoy.optim_groups import param_groups
    from eyetoy.params import (
        AttentionParams,
        ConvParams,
        EncoderParams,
        GlobalAttentionParams,
        HeadParams,
        TransformerParams,
    )
    from eyetoy.positional import PositionalEmbedding1D, PositionalEmbedding2D, PositionalEmbedding3D
    from eyetoy.pyramid import FeatureInfo, FeaturePyramid
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "classifier": ["Classifier"],
            "encoder": ["Encoder", "Encoder1D", "Encoder2D", "Encoder3D", "EncoderOutput"],
            "factory": [
                "create_encoder",
                "create_model",
                "create_pyramid",
                "encoder_params",
                "list_models",
                "register_timm_models",
            ],
            "flops": ["count_flops"],
            "global_stack": [
                "GlobalAttentionStack",
                "GlobalAttentionTransformer",
                "create_attention_mask",
                "global_attention",
            ],
            "inflation": ["Inflation", "inflated"],
            "loading": ["load"],
            "msnat": [
                "MSNATTransformer",
                "MSNATTransformer1D",
                "MSNATTransformer2D",
                "MSNATTransformer3D",
                "MultiScaleMultiHeadNA",
                "SharedScaleNA",
                "TransformerStack",
            ],
            "neighborhood": ["available_backends", "na1d", "na2d", "na3d", "neighborhood_attention"],
            "optim_groups": ["param_groups"],
            "params": [
                "AttentionParams",
                "ConvParams",
                "EncoderParams",
                "GlobalAttentionParams",
                "HeadParams",
                "TransformerParams",
            ],
            "positional": ["PositionalEmbedding1D", "PositionalEmbedding2D", "PositionalEmbedding3D"],
            "pyramid": ["FeatureInfo", "FeaturePyramid"],
        },
    )

__version__ = "0.1.0"

__all__ = [
    "AttentionParams",
    "Classifier",
    "ConvParams",
    "Encoder",
    "Encoder1D",
    "Encoder2D",
    "Encoder3D",
    "EncoderOutput",
    "EncoderParams",
    "FeatureInfo",
    "FeaturePyramid",
    "GlobalAttentionParams",
    "GlobalAttentionStack",
    "GlobalAttentionTransformer",
    "HeadParams",
    "Inflation",
    "MSNATTransformer",
    "MSNATTransformer1D",
    "MSNATTransformer2D",
    "MSNATTransformer3D",
    "MultiScaleMultiHeadNA",
    "PositionalEmbedding1D",
    "PositionalEmbedding2D",
    "PositionalEmbedding3D",
    "SharedScaleNA",
    "TransformerParams",
    "TransformerStack",
    "available_backends",
    "count_flops",
    "create_attention_mask",
    "create_encoder",
    "create_model",
    "create_pyramid",
    "encoder_params",
    "global_attention",
    "inflated",
    "list_models",
    "load",
    "na1d",
    "na2d",
    "na3d",
    "neighborhood_attention",
    "param_groups",
    "register_timm_models",
]
