"""Models that read images: ViT, DeiT, and the vision half of CLIP."""

from compiler.checkpoints.checkpoint import CheckpointError
from compiler.checkpoints.family import LINEARS, Family, Head, Plan, Vision
from compiler.checkpoints.folder import activation
from compiler.checkpoints.settings import Settings

__all__ = ["FAMILIES"]


def _plan(settings: Settings, tokens: tuple[str, ...], positions: str, shape: tuple[int, ...],
          bias: bool = True) -> Plan:
    width, heads = settings.divided("hidden_size", "num_attention_heads")
    image, patch = settings.count("image_size"), settings.count("patch_size")
    if image % patch:
        raise settings.refuse("patch_size", f"a divisor of image_size = {image}")
    biased = LINEARS if settings.flag("qkv_bias", True) else LINEARS - {"query", "key", "value"}
    return Plan(
        settings.count("num_hidden_layers"), width, heads, settings.count("intermediate_size"),
        settings.positive("layer_norm_eps", 1e-12), activation(settings), pre_norm=True,
        biased=biased, vision=Vision(settings.count("num_channels", 3), patch, image, tokens,
                                     positions, shape, bias))


def _vit(settings: Settings) -> Plan:
    return _plan(settings, ("embeddings.cls_token",), "embeddings.position_embeddings", (1, 1))


def _deit(settings: Settings) -> Plan:
    return _plan(settings, ("embeddings.cls_token", "embeddings.distillation_token"),
                 "embeddings.position_embeddings", (1, 1))


def _clip(settings: Settings) -> Plan:
    return _plan(settings, ("embeddings.class_embedding",),
                 "embeddings.position_embedding.weight", (), bias=False)


def _clip_half(settings: Settings) -> Plan:
    own = settings.get("vision_config")
    if not isinstance(own, dict):
        raise CheckpointError(f"{settings.where}: vision_config must be an object, not {own!r}")
    return _clip(Settings(own, f"{settings.where}: vision_config"))


_VIT = {
    "patches": "embeddings.patch_embeddings.projection", "final_norm": "layernorm",
    **{part: f"encoder.layer.{{}}.attention.attention.{part}"
       for part in ("query", "key", "value")},
    "output": "encoder.layer.{}.attention.output.dense",
    "up": "encoder.layer.{}.intermediate.dense", "down": "encoder.layer.{}.output.dense",
    "attention_norm": "encoder.layer.{}.layernorm_before",
    "feed_forward_norm": "encoder.layer.{}.layernorm_after"}
_CLIP = {
    "patches": "embeddings.patch_embedding", "embedding_norm": "pre_layrnorm",
    "final_norm": "post_layernorm",
    **{part: f"encoder.layers.{{}}.self_attn.{part[0]}_proj" for part in ("query", "key", "value")},
    "output": "encoder.layers.{}.self_attn.out_proj", "up": "encoder.layers.{}.mlp.fc1",
    "down": "encoder.layers.{}.mlp.fc2", "attention_norm": "encoder.layers.{}.layer_norm1",
    "feed_forward_norm": "encoder.layers.{}.layer_norm2"}
_CLASSES = Head("image classification", "classifier", pooling="first")
_TAUGHT = Head("image classification", "cls_classifier", pooling="first_two",
               second="distillation_classifier")
_EMBEDDING = Head("embedding", "visual_projection", "projection_dim", bias=False, pooling="first")
_MASK = ("pooler.", "embeddings.mask_token")

FAMILIES = (
    Family(("vit",), "ViT", ("ViT",), _VIT, _vit, ("vit.", ""),
           {"ImageClassification": _CLASSES}, unused=_MASK),
    Family(("deit",), "DeiT", ("DeiT",), _VIT, _deit, ("deit.", ""),
           {"ImageClassification": _CLASSES, "ImageClassificationWithTeacher": _TAUGHT},
           unused=_MASK),
    Family(("clip_vision_model",), "CLIP's vision half", ("CLIPVision",), _CLIP, _clip,
           ("vision_model.", ""), {
               "CLIPVisionModel": Head("embedding", None, pooling="first"),
               "CLIPVisionModelWithProjection": _EMBEDDING},
           unused=("embeddings.position_ids",)),
    Family(("clip",), "CLIP, of which the vision half is read,", ("CLIP",), _CLIP, _clip_half,
           ("vision_model.",), {"CLIPModel": _EMBEDDING}, "CLIPModel",
           ("embeddings.position_ids", "text_model.", "text_projection.", "logit_scale")),
)
