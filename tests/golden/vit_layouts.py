"""One set of vision transformer weights in the layouts of timm, transformers 4 and torchvision."""
import json
import os

import safetensors.torch
import torchvision
import transformers


def timm_config(architecture, model, model_args):
    size = model.patch_embed.img_size
    return {"architecture": architecture, "num_classes": model.num_classes,
            "num_features": model.embed_dim, "global_pool": model.global_pool,
            "model_args": model_args,
            "pretrained_cfg": {"input_size": [3, *size], "fixed_input_size": True,
                               "interpolation": "bicubic", "crop_pct": 0.9,
                               "crop_mode": "center" if size[0] == size[1] else "squash",
                               "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5],
                               "num_classes": model.num_classes, "first_conv": "patch_embed.proj",
                               "classifier": "head"}}


def hf_state(state, distilled):
    """timm names -> names of transformers 4."""
    base = "deit." if distilled else "vit."
    fixed = {"cls_token": base + "embeddings.cls_token",
             "dist_token": base + "embeddings.distillation_token",
             "pos_embed": base + "embeddings.position_embeddings"}
    modules = {"patch_embed.proj": base + "embeddings.patch_embeddings.projection",
               "norm": base + "layernorm", "head": "cls_classifier" if distilled else "classifier",
               "head_dist": "distillation_classifier"}
    inner = {"norm1": "layernorm_before", "norm2": "layernorm_after",
             "attn.proj": "attention.output.dense", "mlp.fc1": "intermediate.dense",
             "mlp.fc2": "output.dense"}
    out = {}
    for name, value in state.items():
        module, _, leaf = name.rpartition(".")
        if name in fixed:
            out[fixed[name]] = value
        elif module in modules:
            out[f"{modules[module]}.{leaf}"] = value
        else:
            _, index, part = module.split(".", 2)
            layer = f"{base}encoder.layer.{index}."
            if part == "attn.qkv":
                for role, piece in zip(("query", "key", "value"), value.chunk(3)):
                    out[f"{layer}attention.attention.{role}.{leaf}"] = piece
            else:
                out[f"{layer}{inner[part]}.{leaf}"] = value
    return out


def torchvision_state(state):
    fixed = {"cls_token": "class_token", "pos_embed": "encoder.pos_embedding"}
    modules = {"patch_embed.proj": "conv_proj", "norm": "encoder.ln", "head": "heads.head"}
    inner = {"norm1": "ln_1", "norm2": "ln_2", "attn.proj": "self_attention.out_proj",
             "mlp.fc1": "mlp.0", "mlp.fc2": "mlp.3"}
    out = {}
    for name, value in state.items():
        module, _, leaf = name.rpartition(".")
        if name in fixed:
            out[fixed[name]] = value
        elif module in modules:
            out[f"{modules[module]}.{leaf}"] = value
        else:
            _, index, part = module.split(".", 2)
            layer = f"encoder.layers.encoder_layer_{index}."
            if part == "attn.qkv":
                out[f"{layer}self_attention.in_proj_{leaf}"] = value
            else:
                out[f"{layer}{inner[part]}.{leaf}"] = value
    return out


def hf_model(model, mlp, distilled):
    kind = transformers.DeiTConfig if distilled else transformers.ViTConfig
    config = kind(hidden_size=model.embed_dim, num_hidden_layers=len(model.blocks),
                  num_attention_heads=model.blocks[0].attn.num_heads, intermediate_size=mlp,
                  hidden_act="gelu", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
                  layer_norm_eps=1e-6, image_size=model.patch_embed.img_size[0],
                  patch_size=model.patch_embed.patch_size[0], num_channels=3, qkv_bias=True,
                  num_labels=model.num_classes)
    build = (transformers.DeiTForImageClassificationWithTeacher if distilled
             else transformers.ViTForImageClassification)
    config.architectures = [build.__name__]
    out = build(config).eval()
    out.load_state_dict(hf_state(model.state_dict(), distilled), strict=True)
    return out


def torchvision_model(model, mlp):
    out = torchvision.models.VisionTransformer(
        image_size=model.patch_embed.img_size[0], patch_size=model.patch_embed.patch_size[0],
        num_layers=len(model.blocks), num_heads=model.blocks[0].attn.num_heads,
        hidden_dim=model.embed_dim, mlp_dim=mlp, num_classes=model.num_classes).eval()
    out.load_state_dict(torchvision_state(model.state_dict()), strict=True)
    return out


def save_model(folder, state, config):
    os.makedirs(folder, exist_ok=True)
    safetensors.torch.save_file({k: v.detach().float().contiguous() for k, v in state.items()},
                                os.path.join(folder, "model.safetensors"), {"format": "pt"})
    if isinstance(config, transformers.PretrainedConfig):
        config = json.loads(config.to_json_string())
    if config is not None:
        with open(os.path.join(folder, "config.json"), "w") as f:
            json.dump(config, f, indent=1, sort_keys=True)
            f.write("\n")
