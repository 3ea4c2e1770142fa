"""Small configurations of the backbones and encoders of keras_hub, and batches for them.

`CATALOGUE` has a function for each name that builds the model with new weights: one or two layers,
16 to 64 channels, images of 32 or 64 pixels, a vocabulary of 30. `batch` makes its inputs. Left out
are names that stand for the same class (ESM2, Qwen2 and SmolLM), and Gemma4AudioEncoder, whose
`call` takes several tensors and which is not built before it is called.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras_hub import layers, models
from keras_hub.src.models.gemma3n.gemma3n_audio_encoder import Gemma3nAudioEncoder
from keras_hub.src.models.mobilenetv5.mobilenetv5_builder import convert_arch_def_to_stackwise
from keras_hub.src.models.qwen3_5.qwen3_5_vision_encoder import Qwen3_5VisionEncoder
from keras_hub.src.models.rqvae.rqvae_backbone import RQVAEBackbone
from keras_hub.src.models.vae.vae_backbone import VAEBackbone

VOCABULARY = 30
LENGTH = 8  # of a sequence
SIZE = 64  # of an image that may have any
BATCH = 2

WORDS = {
    "vocabulary_size": VOCABULARY,
    "num_layers": 2,
    "hidden_dim": 32,
    "intermediate_dim": 64,
}
HEADS = WORDS | {"num_heads": 4}
QUERIES = WORDS | {"num_query_heads": 4, "num_key_value_heads": 2}
GEMMA = QUERIES | {"head_dim": 8}
EXPERTS = {"num_experts": 4, "top_k": 2}
SIGHT = {
    "patch_size": 8,
    "num_layers": 2,
    "num_heads": 4,
    "hidden_dim": 32,
    "intermediate_dim": 64,
}
IMAGE = {"image_shape": (32, 32, 3)}
ENCODED = HEADS | {"embedding_dim": 32, "max_sequence_length": LENGTH}
LINEAR = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
T5_GEMMA = {"vocabulary_size": VOCABULARY, "sliding_window": 4} | {
    f"{side}_{name}": value
    for side in ("encoder", "decoder")
    for name, value in {
        "hidden_dim": 32,
        "intermediate_dim": 64,
        "num_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "layer_types": ["sliding_attention", "full_attention"],
    }.items()
}


def resnet(**changes: Any) -> keras.Model:
    sizes = {
        "input_conv_filters": [16],
        "input_conv_kernel_sizes": [7],
        "stackwise_num_filters": [64, 64, 64],  # the first has to be 64
        "stackwise_num_blocks": [2, 1, 1],
        "stackwise_num_strides": [1, 2, 2],
        "block_type": "bottleneck_block",
    }
    return models.ResNetBackbone(**sizes | changes)


def four_stages() -> keras.Model:
    return resnet(
        stackwise_num_filters=[64, 64, 64, 64],
        stackwise_num_blocks=[1] * 4,
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
        input_conv_filters=[64],
    )


def mit() -> keras.Model:
    return models.MiTBackbone(
        layerwise_depths=[1, 1],
        num_layers=2,
        layerwise_num_heads=[1, 2],
        layerwise_sr_ratios=[8, 4],
        max_drop_path_rate=0.1,
        layerwise_patch_sizes=[7, 3],
        layerwise_strides=[4, 2],
        hidden_dims=[16, 32],
        **IMAGE,
    )


def hgnet(**changes: Any) -> keras.Model:
    sizes = {
        "depths": [1, 1],
        "embedding_size": 16,
        "hidden_sizes": [32, 64],
        "stem_channels": [3, 16, 16],
        "hidden_act": "relu",
        "use_learnable_affine_block": True,
        "stackwise_stage_filters": [[16, 16, 32, 1, 1, 3], [32, 16, 64, 1, 1, 3]],
        "apply_downsample": [False, True],
        "use_lightweight_conv_block": [False, True],
        "image_shape": (None, None, 3),
    }
    return models.HGNetV2Backbone(**sizes | changes)


def d_fine() -> keras.Model:
    return models.DFineBackbone(
        backbone=hgnet(out_features=["stage1", "stage2"]),
        decoder_in_channels=[16, 16],
        encoder_hidden_dim=16,
        num_labels=4,
        num_denoising=10,
        learn_initial_query=False,
        num_queries=10,
        anchor_image_size=(32, 32),
        feat_strides=[4, 8],
        num_feature_levels=2,
        hidden_dim=16,
        encoder_in_channels=[32, 64],
        encode_proj_layers=[1],
        num_attention_heads=2,
        encoder_ffn_dim=32,
        num_encoder_layers=1,
        hidden_expansion=0.5,
        depth_multiplier=0.5,
        eval_idx=-1,
        num_decoder_layers=2,
        decoder_attention_heads=2,
        decoder_ffn_dim=32,
        decoder_n_points=[2, 2],
        lqe_hidden_dim=16,
        num_lqe_layers=2,
        out_features=["stage1", "stage2"],
        seed=0,
        **IMAGE,
    )


def depth_anything() -> keras.Model:
    encoder = models.DINOV2Backbone(
        **SIGHT | {"num_layers": 4}, apply_layernorm=True, image_shape=(64, 64, 3)
    )
    return models.DepthAnythingBackbone(
        encoder,
        reassemble_factors=[4, 2, 1, 0.5],
        neck_hidden_dims=[16, 16, 32, 32],
        fusion_hidden_dim=32,
        head_hidden_dim=16,
        head_in_index=-1,
        feature_keys=["stage1", "stage2", "stage3", "stage4"],
    )


def efficientnet() -> keras.Model:
    return models.EfficientNetBackbone(
        stackwise_kernel_sizes=[3, 3, 3],
        stackwise_num_repeats=[1, 2, 2],
        stackwise_input_filters=[16, 16, 24],
        stackwise_output_filters=[16, 24, 32],
        stackwise_expansion_ratios=[1, 4, 4],
        stackwise_squeeze_and_excite_ratios=[0, 0.25, 0.25],
        stackwise_strides=[1, 2, 2],
        stackwise_block_types=["fused", "unfused", "unfused"],
        stackwise_force_input_filters=[0, 0, 0],
        stackwise_nores_option=[False] * 3,
        stackwise_width_coefficients=[1.0] * 3,
        stackwise_depth_coefficients=[1.0] * 3,
        num_features=64,
        input_shape=(32, 32, 3),
    )


def mobilenet() -> keras.Model:
    return models.MobileNetBackbone(
        stackwise_expansion=[[16, 32], [48, 48]],
        stackwise_num_blocks=[2, 2],
        stackwise_num_filters=[[16, 16], [24, 24]],
        stackwise_kernel_size=[[3, 3], [5, 5]],
        stackwise_num_strides=[[2, 1], [2, 1]],
        stackwise_se_ratio=[[None, None], [0.25, 0.25]],
        stackwise_activation=[["relu", "relu"], ["hard_swish", "hard_swish"]],
        stackwise_padding=[[1, 1], [2, 2]],
        output_num_filters=64,
        depthwise_filters=8,
        depthwise_stride=2,
        depthwise_residual=False,
        last_layer_filter=48,
        squeeze_and_excite=0.5,
        **IMAGE,
    )


def mobilenet_v5(**changes: Any) -> keras.Model:
    blocks = [["er_r1_k3_s2_e4_c16"], ["uir_r2_a3_k5_s2_e4_c32"], ["mqa_r1_k3_h2_s1_d16_c32"]]
    sizes = convert_arch_def_to_stackwise(blocks) | {"use_msfa": False, "num_features": 32}
    return models.MobileNetV5Backbone(**sizes | IMAGE | changes)


def gemma3n() -> keras.Model:
    vision = mobilenet_v5(**convert_arch_def_to_stackwise([["er_r1_k3_s1_e1_c8"]]), num_features=8)
    audio = Gemma3nAudioEncoder(
        hidden_size=16,
        input_feat_size=16,
        sscp_conv_channel_size=[4, 8],
        sscp_conv_kernel_size=[(1, 1), (1, 1)],
        sscp_conv_stride_size=[(2, 2), (2, 2)],
        sscp_conv_group_norm_eps=1e-5,
        num_hidden_layers=1,
        rms_norm_eps=1e-6,
        gradient_clipping=1.0,
        residual_weight=0.5,
        num_attention_heads=2,
        attention_chunk_size=2,
        num_attention_context_right=1,
        num_attention_context_left=1,
        attention_logit_cap=50.0,
        conv_kernel_size=3,
        reduction_factor=1,
    )
    return models.Gemma3nBackbone(
        text_vocab_size=VOCABULARY,
        text_hidden_size=32,
        num_hidden_layers=2,
        pad_token_id=0,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size=[64, 64],
        hidden_activation="gelu_approximate",
        layer_types=["full_attention", "sliding_attention"],
        sliding_window=4,
        rope_theta=10000.0,
        max_position_embeddings=LENGTH,
        vocab_size_per_layer_input=VOCABULARY,
        hidden_size_per_layer_input=8,
        altup_num_inputs=2,
        laurel_rank=4,
        vision_encoder_config=vision.get_config(),
        vision_hidden_size=8,
        audio_encoder_config=audio.get_config(),
        audio_hidden_size=16,
    )


def gemma3_vision() -> keras.Model:
    return models.Gemma3VisionEncoder(image_size=32, output_dim=32, pool_size=2, **SIGHT)


def gemma4_vision() -> keras.Model:
    return models.Gemma4VisionEncoder(
        image_size=32, output_dim=32, pool_size=2, head_dim=8, num_key_value_heads=4, **SIGHT
    )


def moonshine() -> keras.Model:
    return models.MoonshineBackbone(
        vocabulary_size=VOCABULARY,
        filter_dim=32,
        encoder_num_layers=1,
        decoder_num_layers=1,
        hidden_dim=32,
        intermediate_dim=64,
        encoder_num_heads=4,
        decoder_num_heads=4,
    )


def parseq() -> keras.Model:
    return models.PARSeqBackbone(
        image_encoder=vit(use_class_token=False),
        vocabulary_size=VOCABULARY,
        max_label_length=LENGTH,
        decoder_hidden_dim=32,
        num_decoder_layers=1,
        num_decoder_heads=4,
        decoder_mlp_dim=64,
    )


def vit(**changes: Any) -> keras.Model:
    sizes = {"num_layers": 2, "num_heads": 4, "hidden_dim": 32, "mlp_dim": 64}
    return models.ViTBackbone(patch_size=8, **sizes, **IMAGE | changes)


def vit_det(**changes: Any) -> keras.Model:
    sizes = {
        "hidden_size": 32,
        "num_layers": 2,
        "intermediate_dim": 64,
        "num_heads": 4,
        "global_attention_layer_indices": [1],
        "patch_size": 8,
        "num_output_channels": 16,
        "window_size": 2,
    }
    return models.ViTDetBackbone(**sizes | IMAGE | changes)


def sam() -> keras.Model:
    return models.SAMBackbone(
        image_encoder=vit_det(image_shape=(64, 64, 3)),
        prompt_encoder=layers.SAMPromptEncoder(
            hidden_size=16,
            image_embedding_size=(8, 8),
            input_image_size=(64, 64),
            mask_in_channels=16,
        ),
        mask_decoder=layers.SAMMaskDecoder(
            num_layers=2,
            hidden_size=16,
            intermediate_dim=32,
            num_heads=4,
            embedding_dim=16,
            num_multimask_outputs=3,
            iou_head_depth=2,
            iou_head_hidden_dim=16,
        ),
    )


def sam3() -> keras.Model:
    sizes = {"hidden_dim": 16, "intermediate_dim": 32, "num_heads": 2, "num_layers": 2}
    image = {"image_shape": (28, 28, 3), "patch_size": 14}
    return models.SAM3PromptableConceptBackbone(
        vision_encoder=layers.SAM3VisionEncoder(
            fpn_hidden_dim=16,
            fpn_scale_factors=[4.0, 2.0, 1.0, 0.5],
            pretrain_image_shape=(42, 42, 3),
            window_size=2,
            global_attn_indexes=[1],
            **image,
            **sizes,
        ),
        text_encoder=layers.SAM3TextEncoder(vocabulary_size=VOCABULARY, embedding_dim=16, **sizes),
        geometry_encoder=layers.SAM3GeometryEncoder(roi_size=7, **sizes),
        detr_encoder=layers.SAM3DetrEncoder(**sizes),
        detr_decoder=layers.SAM3DetrDecoder(num_queries=8, **image, **sizes),
        mask_decoder=layers.SAM3MaskDecoder(num_upsampling_stages=3, hidden_dim=16, num_heads=2),
    )


def vae() -> keras.Model:
    return VAEBackbone([32] * 4, [1] * 4, [32] * 4, [1] * 4, sampler_method="mode")


def stable_diffusion_3() -> keras.Model:
    clip = ENCODED | {"intermediate_output_index": -2}
    return models.StableDiffusion3Backbone(
        mmdit_patch_size=2,
        mmdit_hidden_dim=32,
        mmdit_num_layers=2,
        mmdit_num_heads=2,
        mmdit_position_size=192,
        mmdit_qk_norm=None,
        mmdit_dual_attention_indices=None,
        vae=vae(),
        clip_l=models.CLIPTextEncoder(**clip, name="clip_l"),
        clip_g=models.CLIPTextEncoder(**clip, name="clip_g"),
        image_shape=(64, 64, 3),
    )


def flux() -> keras.Model:
    return models.FluxBackbone(
        input_channels=16,
        hidden_size=64,
        mlp_ratio=2.0,
        num_heads=4,
        depth=1,
        depth_single_blocks=1,
        axes_dim=[4, 6, 6],
        theta=10_000,
        use_bias=True,
        guidance_embed=True,
        image_shape=(16, 16),
        text_shape=(LENGTH, 16),
        image_ids_shape=(16, 3),
        text_ids_shape=(LENGTH, 3),
        y_shape=(16,),
    )


def blip2_vision() -> keras.Model:
    return models.BLIP2VisionEncoder(
        image_size=32,
        use_patch_bias=True,
        use_class_token=True,
        use_mha_bias=True,
        use_mlp_bias=True,
        dropout_rate=0.0,
        layer_norm_epsilon=1e-6,
        initializer_range=0.02,
        **SIGHT,
    )


def blip2() -> keras.Model:
    sizes = {"num_layers": 2, "num_heads": 4, "hidden_dim": 32, "intermediate_dim": 64}
    qformer = models.BLIP2QFormer(
        num_query_tokens=4,
        vision_dim=32,
        cross_attention_frequency=1,
        dropout=0.0,
        layer_norm_epsilon=1e-6,
        **sizes,
    )
    language_model = models.BLIP2CustomOPT(
        vocabulary_size=VOCABULARY,
        num_query_tokens=4,
        qformer_hidden_dim=32,
        max_sequence_length=LENGTH + 4,
        dropout=0.0,
        language_projection=None,
        **sizes,
    )
    return models.BLIP2Backbone(blip2_vision(), qformer, language_model)


def qwen3_5(**changes: Any) -> keras.Model:
    return models.Qwen3_5Backbone(**GEMMA | LINEAR | changes)


def qwen3_5_with_vision() -> keras.Model:
    vision = Qwen3_5VisionEncoder(
        depth=1,
        hidden_size=32,
        num_heads=4,
        intermediate_size=64,
        in_channels=3,
        patch_size=4,
        temporal_patch_size=2,
        spatial_merge_size=2,
        out_hidden_size=32,
        num_position_embeddings=64,
    )
    return qwen3_5(vision_encoder=vision, mrope_section=[1, 1, 1])


def two_towers(family: str, **changes: Any) -> keras.Model:
    vision = getattr(models, f"{family}VisionEncoder")(**SIGHT, **IMAGE, name="vision_encoder")
    text = getattr(models, f"{family}TextEncoder")(**ENCODED, name="text_encoder")
    return getattr(models, f"{family}Backbone")(vision, text, **changes)


def _smollm3() -> keras.Model:
    return models.SmolLM3Backbone(
        **WORDS,
        num_attention_heads=4,
        num_key_value_heads=2,
        attention_bias=False,
        attention_dropout=0.0,
        rope_layer_enabled_list=[True, False],
        layer_types=["attention"] * 2,
        mlp_bias=False,
        layer_norm_epsilon=1e-5,
        max_position_embeddings=LENGTH,
        rope_theta=10000.0,
        partial_rotary_factor=1.0,
    )


def _named(name: str, **sizes: Any) -> Callable[[], keras.Model]:
    return functools.partial(getattr(models, name), **sizes)


CATALOGUE: Mapping[str, Callable[[], keras.Model]] = {
    "AlbertBackbone": _named("AlbertBackbone", **HEADS, embedding_dim=16),
    "BASNetBackbone": lambda: models.BASNetBackbone(image_encoder=four_stages(), num_classes=1),
    "BLIP2Backbone": blip2,
    "BLIP2VisionEncoder": blip2_vision,
    "BartBackbone": _named("BartBackbone", **HEADS),
    "BertBackbone": _named("BertBackbone", **HEADS),
    "BloomBackbone": _named("BloomBackbone", **HEADS),
    "CLIPBackbone": lambda: two_towers("CLIP", projection_dim=32),
    "CLIPTextEncoder": _named("CLIPTextEncoder", **ENCODED),
    "CLIPVisionEncoder": _named("CLIPVisionEncoder", **SIGHT, **IMAGE),
    "CSPNetBackbone": _named(
        "CSPNetBackbone",
        stem_filters=16,
        stem_kernel_size=3,
        stem_strides=1,
        stackwise_depth=[1, 2],
        stackwise_strides=2,
        stackwise_num_filters=[16, 32],
        block_type="dark_block",
        stage_type="csp",
        bottle_ratio=[0.5, 1.0],
        block_ratio=[1.0, 0.5],
        expand_ratio=[2.0, 1.0],
        stem_padding="same",
        down_growth=True,
    ),
    "DFineBackbone": d_fine,
    "DINOV2Backbone": _named("DINOV2Backbone", **SIGHT, **IMAGE, num_register_tokens=2),
    "DINOV3Backbone": _named("DINOV3Backbone", **SIGHT, **IMAGE),
    "DebertaV3Backbone": _named("DebertaV3Backbone", **HEADS, bucket_size=8),
    "DeepLabV3Backbone": lambda: models.DeepLabV3Backbone(
        image_encoder=resnet(),
        spatial_pyramid_pooling_key="P4",
        low_level_feature_key="P2",
        projection_filters=16,
        upsampling_size=4,
        dilation_rates=[2, 4, 6],
        image_shape=(64, 64, 3),
    ),
    "DeiTBackbone": _named("DeiTBackbone", **SIGHT, **IMAGE),
    "DenseNetBackbone": _named(
        "DenseNetBackbone", stackwise_num_repeats=[2, 2, 2], growth_rate=16, **IMAGE
    ),
    "DepthAnythingBackbone": depth_anything,
    "DistilBertBackbone": _named("DistilBertBackbone", **HEADS),
    "ESMBackbone": _named("ESMBackbone", **HEADS),
    "EdRecBackbone": _named(
        "EdRecBackbone",
        vocab_size=VOCABULARY,
        num_layers_enc=2,
        num_layers_dec=2,
        num_heads=4,
        hidden_dim=32,
        intermediate_dim=64,
    ),
    "EfficientNetBackbone": efficientnet,
    "ElectraBackbone": _named(
        "ElectraBackbone",
        vocab_size=VOCABULARY,
        num_layers=2,
        num_heads=4,
        hidden_dim=32,
        embedding_dim=16,
        intermediate_dim=64,
    ),
    "FNetBackbone": _named("FNetBackbone", **WORDS),
    "FalconBackbone": _named("FalconBackbone", **WORDS, num_attention_heads=4),
    "FluxBackbone": flux,
    "GPT2Backbone": _named("GPT2Backbone", **HEADS),
    "GPTNeoXBackbone": _named("GPTNeoXBackbone", **HEADS),
    "Gemma3Backbone": lambda: models.Gemma3Backbone(
        **GEMMA,
        image_size=32,
        use_sliding_window_attention=True,
        sliding_window_size=4,
        use_post_ffw_norm=True,
        use_post_attention_norm=True,
        vision_encoder=gemma3_vision(),
    ),
    "Gemma3VisionEncoder": gemma3_vision,
    "Gemma3nBackbone": gemma3n,
    "Gemma4Backbone": lambda: models.Gemma4Backbone(
        **GEMMA, image_size=32, sliding_window_size=4, vision_encoder=gemma4_vision()
    ),
    "Gemma4VisionEncoder": gemma4_vision,
    "GemmaBackbone": _named(
        "GemmaBackbone",
        **GEMMA,
        use_post_ffw_norm=True,
        use_post_attention_norm=True,
        attention_logit_soft_cap=50,
        use_sliding_window_attention=True,
        sliding_window_size=4,
    ),
    "GptOssBackbone": _named("GptOssBackbone", **QUERIES, **EXPERTS, sliding_window=4),
    "HGNetV2Backbone": hgnet,
    "Llama3Backbone": _named("Llama3Backbone", **QUERIES),
    "LlamaBackbone": _named("LlamaBackbone", **QUERIES),
    "MetaCLIP2Backbone": lambda: two_towers("MetaCLIP2", projection_dim=32),
    "MetaCLIP2TextEncoder": _named("MetaCLIP2TextEncoder", **ENCODED),
    "MetaCLIP2VisionEncoder": _named("MetaCLIP2VisionEncoder", **SIGHT, **IMAGE),
    "MiTBackbone": mit,
    "MistralBackbone": _named("MistralBackbone", **QUERIES, sliding_window=4),
    "MixtralBackbone": _named("MixtralBackbone", **QUERIES, **EXPERTS, sliding_window=4),
    "MobileNetBackbone": mobilenet,
    "MobileNetV5Backbone": mobilenet_v5,
    "MoonshineBackbone": moonshine,
    "OPTBackbone": _named("OPTBackbone", **HEADS),
    "PARSeqBackbone": parseq,
    "PaliGemmaBackbone": _named(
        "PaliGemmaBackbone",
        **GEMMA,
        image_size=32,
        vit_patch_size=8,
        vit_num_heads=4,
        vit_hidden_dim=32,
        vit_num_layers=2,
        vit_intermediate_dim=64,
    ),
    "Phi3Backbone": _named("Phi3Backbone", **QUERIES),
    "Qwen3Backbone": _named("Qwen3Backbone", **GEMMA),
    "Qwen3MoeBackbone": _named("Qwen3MoeBackbone", **GEMMA, **EXPERTS, moe_intermediate_dim=32),
    "Qwen3_5Backbone": qwen3_5,
    "Qwen3_5Backbone with vision": qwen3_5_with_vision,
    "Qwen3_5MoeBackbone": lambda: models.Qwen3_5MoeBackbone(
        **{name: size for name, size in GEMMA.items() if name != "intermediate_dim"},
        **LINEAR,
        **EXPERTS,
        moe_intermediate_dim=32,
        shared_expert_intermediate_size=32,
    ),
    "QwenBackbone": _named("QwenBackbone", **QUERIES),
    "QwenMoeBackbone": _named(
        "QwenMoeBackbone",
        **QUERIES,
        **EXPERTS,
        moe_intermediate_dim=32,
        shared_expert_intermediate_dim=32,
    ),
    "RQVAEBackbone": functools.partial(
        RQVAEBackbone,
        input_dim=16,
        encoder_layer_dims=[32, 16],
        output_dim=8,
        decoder_layer_dims=[16, 32],
        num_embeddings=8,
        num_quantizers=2,
        decay=0.99,
        data_variance=1.0,
        commitment_cost=0.25,
    ),
    "RWKV7Backbone": _named(
        "RWKV7Backbone",
        vocabulary_size=VOCABULARY,
        hidden_size=32,
        head_size=8,
        num_layers=2,
        intermediate_dim=64,
        gate_lora=16,
        mv_lora=16,
        aaa_lora=16,
        decay_lora=16,
    ),
    "ResNetBackbone": resnet,
    "RetinaNetBackbone": lambda: models.RetinaNetBackbone(
        image_encoder=four_stages(), min_level=3, max_level=5, use_p5=True
    ),
    "RobertaBackbone": _named("RobertaBackbone", **HEADS),
    "RoformerV2Backbone": _named("RoformerV2Backbone", **HEADS, head_size=8),
    "SAM3PromptableConceptBackbone": sam3,
    "SAMBackbone": sam,
    "SegFormerBackbone": lambda: models.SegFormerBackbone(
        image_encoder=mit(), projection_filters=32
    ),
    "SigLIPBackbone": lambda: two_towers("SigLIP"),
    "SigLIPTextEncoder": _named("SigLIPTextEncoder", **ENCODED),
    "SigLIPVisionEncoder": _named("SigLIPVisionEncoder", **SIGHT, **IMAGE),
    "SmolLM3Backbone": _smollm3,
    "StableDiffusion3Backbone": stable_diffusion_3,
    "SwinTransformerBackbone": _named(
        "SwinTransformerBackbone",
        embed_dim=16,
        depths=(2, 2),
        num_heads=(2, 4),
        window_size=4,
        **IMAGE,
    ),
    "T5Backbone": _named("T5Backbone", **HEADS),
    "T5Gemma2Backbone": _named("T5Gemma2Backbone", **T5_GEMMA),
    "T5GemmaBackbone": _named("T5GemmaBackbone", **T5_GEMMA, cross_attention_hidden_size=32),
    "VAEBackbone": vae,
    "VGGBackbone": _named(
        "VGGBackbone", stackwise_num_repeats=[2, 2], stackwise_num_filters=[16, 32], **IMAGE
    ),
    "ViTBackbone": vit,
    "ViTDetBackbone": vit_det,
    "VideoPrismBackbone": _named(
        "VideoPrismBackbone",
        num_frames=4,
        patch_size=8,
        hidden_dim=32,
        intermediate_dim=64,
        num_heads=4,
        num_spatial_layers=1,
        num_temporal_layers=1,
        num_auxiliary_layers=1,
        vocabulary_size=VOCABULARY,
        num_text_layers=1,
        **IMAGE,
    ),
    "WhisperBackbone": _named(
        "WhisperBackbone",
        **HEADS,
        num_mels=16,
        max_encoder_sequence_length=2 * LENGTH,
        max_decoder_sequence_length=LENGTH,
    ),
    "XLMRobertaBackbone": _named("XLMRobertaBackbone", **HEADS),
    "XLNetBackbone": _named("XLNetBackbone", **HEADS),
    "XceptionBackbone": _named(
        "XceptionBackbone",
        stackwise_conv_filters=[[16, 32], [48, 48], [64, 64]],
        stackwise_pooling=[False, True, False],
    ),
}

# Sizes of the axes that a model leaves open, where they are neither LENGTH nor SIZE. The images of
# a prompt are in an axis of their own.
_OPEN = {
    "encoder_input_values": [1024],
    "encoder_padding_mask of MoonshineBackbone": [1024],
    "points": [1],
    "labels": [1],
    "boxes": [1],
    "vision_mask": [LENGTH],
    "box_labels": [1],
    "masks": [0, 64, 64],
    "encoder_features": [2 * LENGTH],
    "images": [1],
    "pixel_values of Gemma4Backbone": [1, 16, 192],
    "pixel_position_ids of Gemma4Backbone": [1, 16],
    "pixel_values of Gemma4VisionEncoder": [1, 16],
    "pixel_position_ids of Gemma4VisionEncoder": [1, 16],
    "pixel_values of Gemma3nBackbone": [1],
    "input_features of Gemma3nBackbone": [1, LENGTH],
    "input_features_mask of Gemma3nBackbone": [1, LENGTH],
    "pixel_values of Qwen3_5Backbone with vision": [16],
    "image_grid_thw": [1],
    "vision_indices": [4],
}


def batch(name: str, model: keras.Model, seed: int = 0) -> Any:
    """Makes inputs for a model of the catalogue, in the structure that it takes.

    Args:
        name: the model's name in the catalogue.
        model: what the catalogue built.
        seed: inputs of another seed hold other numbers.
    """
    random = np.random.default_rng(seed)
    return keras.tree.map_structure(
        lambda tensor: _values(name, tensor, random), model._inputs_struct
    )


def _values(name: str, tensor: keras.KerasTensor, random: np.random.Generator) -> np.ndarray:
    shape = _shape(name, tensor)
    integers = "int" in tensor.dtype
    if tensor.name.endswith("mask"):
        return np.zeros(shape, tensor.dtype) if _is_empty(tensor.name) else _mask(shape, tensor)
    if tensor.name == "vision_indices":  # where the four parts of an image are in the prompt
        return np.broadcast_to(np.arange(1, 5, dtype=tensor.dtype), shape)
    if tensor.name == "image_grid_thw":
        return np.broadcast_to(np.asarray([1, 4, 4], tensor.dtype), shape)
    if tensor.name == "pixel_position_ids":  # rows and columns of four by four patches
        places = np.stack(np.divmod(np.arange(shape[-2]), 4), axis=-1)
        return np.broadcast_to(places.astype(tensor.dtype), shape)
    if tensor.name == "position_ids":
        return np.broadcast_to(np.arange(shape[-1], dtype=tensor.dtype), shape)
    if tensor.name in ("segment_ids", "labels", "box_labels", "num_steps"):
        return np.ones(shape, tensor.dtype)
    if integers or tensor.name.endswith("token_ids"):
        return random.integers(1, VOCABULARY, shape).astype(tensor.dtype)
    return random.normal(size=shape).astype(tensor.dtype)


def _shape(name: str, tensor: keras.KerasTensor) -> tuple[int, ...]:
    """The shape of an input, with the sizes that the model leaves open."""
    sizes = _OPEN.get(f"{tensor.name} of {name}", _OPEN.get(tensor.name))
    if sizes is None:
        sizes = [SIZE, SIZE] if len(tensor.shape) == 4 else [LENGTH]
    fill = iter(sizes)
    return (BATCH, *(next(fill) if size is None else size for size in tensor.shape[1:]))


def _is_empty(name: str) -> bool:
    """Whether a mask names places that are left out, or of an image, of which there are none."""
    return name in ("vision_mask", "audio_mel_mask", "response_mask", "input_features_mask")


def _mask(shape: tuple[int, ...], tensor: keras.KerasTensor) -> np.ndarray:
    """All places but the last, which is padding."""
    mask = np.ones(shape, tensor.dtype)
    mask[..., -1] = 0
    return mask
