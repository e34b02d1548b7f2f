"""Writes the tiny vision transformers and their golden results (see README.md beside this file).

    python tests/golden/make_vit.py [--out tests/golden]

Needs torch, torchvision, timm, transformers, captum, safetensors. Weights and inputs come from
fixed seeds and are float32; results are computed with them in float64.
"""
import argparse
import json
import os

import captum
import captum.attr
import numpy as np
import safetensors
import safetensors.torch
import timm
import torch
import torch.nn.functional as F
import torchvision
import transformers
from timm.layers import resample_abs_pos_embed
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer

import vit_reference as ref
from vit_layouts import hf_model, save_model, timm_config, torchvision_model

BATCH = 3
CLASSES = 7


def randomise(model, seed):
    """Uneven attention, logits that differ between samples, no parameter at a special value."""
    g = torch.Generator().manual_seed(seed)
    for name, p in sorted(model.named_parameters()):
        z = torch.randn(p.shape, generator=g, dtype=torch.float32)
        if "norm" in name and name.endswith("weight"):
            value = 1 + 0.2 * z
        elif name.endswith("gamma"):
            value = 0.6 + 0.2 * z
        elif name.endswith("token") or name == "pos_embed":
            value = 0.5 * z
        elif name.endswith("bias"):
            value = 0.2 * z
        else:
            fan_in = p[0].numel()
            value = z * (1.3 if ".qkv." in name else 1.0) / fan_in ** 0.5
        p.data.copy_(value)
    return ref.unfuse_attention(model)


def inputs(seed, height, width, count=BATCH):
    g = torch.Generator().manual_seed(seed)
    rough = torch.randn(count, 3, height, width, generator=g)
    coarse = torch.randn(count, 3, 4, 4, generator=g)
    smooth = F.interpolate(coarse, (height, width), mode="bilinear")
    return (0.5 * rough + smooth).float()


def explicit_targets(predicted):
    """Different for every sample and different from the prediction."""
    return torch.tensor([(int(p) + 1 + 2 * i) % CLASSES for i, p in enumerate(predicted)])


def check_close(what, got, want, tolerance):
    scale = want.abs().max().item()
    error = (got - want).abs().max().item()
    assert error <= tolerance * max(scale, 1e-30), f"{what}: {error} against a scale of {scale}"


# --- results --------------------------------------------------------------------------------------


class Golden:
    """Collects results; each is computed in float64 and again in float32, whose distance from the
    former says how far rounding alone can move it."""

    def __init__(self, model, x, seed_of):
        self.model, self.x = model, x
        self.double = ref_double(model)
        p = ref.predicted(self.double, x.double())
        self.labels = {"predicted": p, "target": explicit_targets(p)}
        self.tensors = {"input": x}
        self.about = {"seeds": seed_of, "labels": {k: v.tolist() for k, v in self.labels.items()}}
        self.results = {}

    def add(self, name, compute, **options):
        """compute(model, x, cast) with cast bringing further float32 tensors to the pass's type."""
        want = compute(self.double, self.x.double(), lambda t: t.double())
        got = compute(self.model, self.x, lambda t: t.float())
        if isinstance(want, torch.Tensor):
            want, got = (want,), (got,)
        for suffix, w, g in zip(("", ".gap"), want, got):
            assert torch.isfinite(w).all() and w.abs().max() > 0, name + suffix
            # A gap is a small difference of large sums: its scale is the result's sum, not its own.
            scale = w.abs().max() if not suffix else want[0].flatten(1).sum(1).abs().max()
            deviation = ((g.double() - w).abs().max() / scale).item()
            self.tensors[name + suffix] = w.detach().contiguous().double()
            self.results[name + suffix] = dict(options, shape=list(w.shape),
                                               f32_error=float(f"{deviation:.2g}"))

    def each(self, method, fn, of, which, **options):
        for w in which:
            labels = self.labels[w]
            self.add(f"{method}.{of}.{w}", lambda m, x, cast: fn(m, x, labels, of, cast), of=of,
                     labels=w, **options)

    def save(self, out, stem, config):
        safetensors.torch.save_file(self.tensors, os.path.join(out, stem + ".golden.safetensors"))
        self.about.update(config=config, results=self.results, versions=versions())
        with open(os.path.join(out, stem + ".json"), "w") as f:
            f.write(compact_json(self.about))


def compact_json(about):
    """One line per result keeps the file readable and its differences small."""
    head = {k: v for k, v in about.items() if k != "results"}
    lines = [f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in about["results"].items()]
    return json.dumps(head, indent=1)[:-2] + ',\n "results": {\n' + ",\n".join(lines) + "\n }\n}\n"


def ref_double(model):
    import copy
    return copy.deepcopy(model).double()


def versions():
    return {"torch": torch.__version__, "torchvision": torchvision.__version__,
            "timm": timm.__version__, "transformers": transformers.__version__,
            "captum": captum.__version__, "numpy": np.__version__,
            "safetensors": safetensors.__version__}


def add_attention_results(golden, start, full=True, pooled=False):
    """full: both label lists. pooled: the classifier reads the mean of the patches, which leaves
    out the methods that nobody has defined for it."""
    both = ("predicted", "target") if full else ("target",)
    golden.add("attention_last", lambda m, x, cast: ref.attention_last(m, x))
    for s in (0, start):
        golden.add(f"rollout.start{s}", lambda m, x, cast: ref.rollout(m, x, s), start_layer=s)
    for raw in () if pooled else (True, False):
        golden.each("attention_grad_cam" + (".raw" if raw else ""),
                    lambda m, x, y, of, cast: ref.attention_grad_cam(m, x, y, of, not raw),
                    "logit", both)
    for rule in ("paper", "interpretdl"):
        for s in (0, start):
            for of in ("logit", "probability") if full or pooled else ("probability",):
                golden.each(f"generic_attention.{rule}.start{s}",
                            lambda m, x, y, of, cast: ref.generic_attention(m, x, y, of, rule, s),
                            of, both, rule=rule, start_layer=s)
    for steps, s in () if pooled else ((5, start), (5, 0), (20, 0)):
        golden.each(f"tam.steps{steps}.start{s}",
                    lambda m, x, y, of, cast: ref.tam(m, x, y, of, s, steps), "probability", both,
                    start_layer=s, steps=steps)


def add_tam_options(golden, start):
    golden.each(f"tam.steps5.start{start}",
                lambda m, x, y, of, cast: ref.tam(m, x, y, of, start, 5),
                "logit", ("target",), start_layer=start, steps=5)
    golden.each(f"tam.no_integral.start{start}",
                lambda m, x, y, of, cast: ref.tam(m, x, y, of, start, 1, integral=False),
                "probability", ("target",), start_layer=start)
    golden.each("tam.steps5.last_state",
                lambda m, x, y, of, cast: ref.tam(m, x, y, of, start, 5, last_state_only=True),
                "probability", ("target",), steps=5)


def add_pixel_results(golden, seed):
    g = torch.Generator().manual_seed(seed)
    draws = torch.randn(3, *golden.x.shape, generator=g)
    baseline = 0.3 * torch.randn(golden.x.shape, generator=g)
    trials = torch.randn(2, *golden.x.shape, generator=g)
    golden.tensors.update({"smoothgrad.draws": draws, "baseline": baseline,
                           "baseline.trials": trials})

    plain = lambda m, x, y, of, cast: ref.gradient(m, x, y, of)
    golden.each("gradient", plain, "probability", ("predicted", "target"))
    golden.each("gradient", plain, "logit", ("target",))
    golden.each("gradient", plain, "loss", ("target",))
    golden.each("input_x_gradient", lambda m, x, y, of, cast: ref.input_x_gradient(m, x, y, of),
                "logit", ("target",))

    def path(rule, steps, which):
        def run(m, x, y, of, cast):
            b = {"zero": None, "tensor": cast(baseline)[None], "trials": cast(trials)}[which]
            return ref.integrated_gradients(m, x, y, of, rule, steps, b)
        return run

    for rule, steps, which, of, label in (
            ("endpoint_mean", 7, "zero", "probability", "predicted"),
            ("endpoint_mean", 5, "trials", "probability", "target"),
            ("riemann_left", 6, "tensor", "logit", "target"),
            ("riemann_right", 6, "tensor", "logit", "target"),
            ("riemann_middle", 6, "tensor", "logit", "target"),
            ("riemann_trapezoid", 6, "tensor", "logit", "target"),
            ("trapezoid", 6, "tensor", "logit", "target"),
            ("gausslegendre", 5, "tensor", "logit", "target"),
            ("gausslegendre", 16, "zero", "probability", "target")):
        golden.each(f"integrated_gradients.{rule}.steps{steps}.{which}", path(rule, steps, which),
                    of, (label,), rule=rule, steps=steps, baseline=which)
    for amount, of, label in ((0.1, "probability", "predicted"), (0.25, "logit", "target")):
        golden.each(f"smoothgrad.noise{amount}",
                    lambda m, x, y, of, cast: ref.smoothgrad(m, x, y, cast(draws), of, amount), of,
                    (label,), noise_amount=amount, n_samples=3)
    check_against_captum(golden, baseline)


def check_against_captum(golden, baseline):
    """The gradient methods once more through an independent implementation."""
    torch.set_default_dtype(torch.float64)  # captum's positions take the default type
    m, x, y = golden.double, golden.x.double(), golden.labels["target"]

    def agree(name, got):
        check_close("captum " + name, got.detach(), golden.tensors[name], 1e-12)

    for of in ref.TARGETS:
        f = lambda t, labels: ref.target_value(m(t), labels, of)
        agree(f"gradient.{of}.target",
              captum.attr.Saliency(f).attribute(x, abs=False, additional_forward_args=(y,)))
    f = lambda t, labels: ref.target_value(m(t), labels, "logit")
    agree("input_x_gradient.logit.target",
          captum.attr.InputXGradient(f).attribute(x, additional_forward_args=(y,)))
    ig = captum.attr.IntegratedGradients(f)
    for rule, n in (("riemann_left", 6), ("riemann_right", 6), ("riemann_middle", 6),
                    ("riemann_trapezoid", 6), ("gausslegendre", 5)):
        name = f"integrated_gradients.{rule}.steps{n}.tensor.logit.target"
        value, delta = ig.attribute(x, baseline.double(), n_steps=n, method=rule,
                                    additional_forward_args=(y,), return_convergence_delta=True)
        agree(name, value)
        error = (delta - golden.tensors[name + ".gap"]).abs().max().item()
        assert error < 1e-11, (name, error)
    torch.set_default_dtype(torch.float32)


def add_places(golden):
    """Values inside the network, to find the first place where two implementations part."""
    def place(module_of):
        def run(m, x, cast):
            kept = []
            hook = module_of(m).register_forward_hook(lambda mod, i, out: kept.append(out.detach()))
            ref.logits(m, x)
            hook.remove()
            return kept[0]
        return run
    golden.add("place.embed.out", place(lambda m: m.norm_pre))
    golden.add("place.blocks.0.out", place(lambda m: m.blocks[0]))
    golden.add("place.norm", place(lambda m: m.norm))
    last = len(golden.model.blocks) - 1
    golden.add(f"place.blocks.{last}.attn.probs", lambda m, x, cast: ref.attention(m, x)[1][-1])
    y = golden.labels["target"]
    golden.add(f"place_gradient.blocks.{last}.attn.probs.probability.target",
               lambda m, x, cast: ref.attention(m, x, y, "probability")[2][-1])


# --- another input size ---------------------------------------------------------------------------


def resized_position(pos, prefix, old, new, antialias):
    head, body = pos[:, :prefix], pos[:, prefix:]
    body = body.reshape(1, *old, -1).permute(0, 3, 1, 2)
    body = F.interpolate(body, new, mode="bicubic", align_corners=False, antialias=antialias)
    return torch.cat([head, body.permute(0, 2, 3, 1).flatten(1, 2)], 1)


def add_resizes(golden, build, hf, seed):
    """The model at other image sizes: position embedding resampled as timm does (antialiased) and
    as transformers does (not), checked against both."""
    for i, (h, w) in enumerate(((9, 9), (18, 9))):
        x = inputs(seed + i, h, w, count=2)
        stem = f"resize.{h}x{w}"
        golden.tensors[stem + ".input"] = x
        grid = (h // 3, w // 3)
        for kernel, antialias in (("antialias", True), ("plain", False)):
            state = dict(golden.double.state_dict())
            state["pos_embed"] = resized_position(state["pos_embed"], 1, (4, 4), grid, antialias)
            other = ref.unfuse_attention(build((h, w))).double()
            other.load_state_dict(state)
            out = ref.logits(other, x.double())
            y = out.argmax(1)
            of_kernel = {"pos": state["pos_embed"].clone(), "logits": out,
                         "generic_attention.paper.start0.probability.predicted":
                             ref.generic_attention(other, x.double(), y),
                         "rollout.start0": ref.rollout(other, x.double())}
            golden.tensors.update({f"{stem}.{kernel}.{k}": v for k, v in of_kernel.items()})
            if antialias:
                theirs = resample_abs_pos_embed(golden.model.pos_embed, grid, num_prefix_tokens=1)
                check_close("timm resample", theirs.detach().double(), state["pos_embed"], 1e-6)
            else:
                with torch.no_grad():
                    theirs = hf.double()(x.double(), interpolate_pos_encoding=True).logits
                check_close("transformers interpolate", theirs, out, 1e-10)
                hf.float()


# --- models ---------------------------------------------------------------------------------------


def make_tiny(out):
    args = {"img_size": 12, "patch_size": 3, "embed_dim": 24, "depth": 3, "num_heads": 3,
            "mlp_ratio": 1.5}
    build = lambda size: VisionTransformer(**dict(args, img_size=size), num_classes=CLASSES)
    model = randomise(build(12), 101)
    config = timm_config("vit_tiny_patch16_224", model, args)
    save_model(os.path.join(out, "vit_tiny"), model.state_dict(), config)
    hf, tv = hf_model(model, 36, False), torchvision_model(model, 36)
    save_model(os.path.join(out, "vit_tiny_hf"), hf.state_dict(), hf.config)
    save_model(os.path.join(out, "vit_tiny_torchvision"), tv.state_dict(), None)

    golden = Golden(model, inputs(102, 12, 12),
                    {"weights": 101, "input": 102, "draws": 103, "resize": 104})
    golden.add("logits", lambda m, x, cast: ref.logits(m, x))
    with torch.no_grad():
        check_close("hf logits", hf(golden.x).logits, golden.tensors["logits"], 1e-5)
        check_close("torchvision logits", tv(golden.x), golden.tensors["logits"], 1e-5)
    add_places(golden)
    add_pixel_results(golden, 103)
    add_attention_results(golden, 1)
    add_tam_options(golden, 1)
    add_resizes(golden, build, hf, 104)
    golden.save(out, "vit_tiny", config)


def make_distilled(out):
    args = {"img_size": [12, 12], "patch_size": 4, "embed_dim": 20, "depth": 2, "num_heads": 2,
            "mlp_ratio": 2.0}
    model = randomise(VisionTransformerDistilled(**args, num_classes=CLASSES), 201)
    config = timm_config("deit_tiny_distilled_patch16_224", model, args)
    save_model(os.path.join(out, "vit_distilled"), model.state_dict(), config)
    hf = hf_model(model, 40, True)
    save_model(os.path.join(out, "vit_distilled_hf"), hf.state_dict(), hf.config)
    golden = Golden(model, inputs(202, 12, 12), {"weights": 201, "input": 202})
    golden.add("logits", lambda m, x, cast: ref.logits(m, x))
    with torch.no_grad():
        check_close("hf deit logits", hf(golden.x).logits, golden.tensors["logits"], 1e-5)
    golden.each("gradient", lambda m, x, y, of, cast: ref.gradient(m, x, y, of), "probability",
                ("target",))
    add_attention_results(golden, 1, full=False)
    golden.save(out, "vit_distilled", config)


def make_variant(out, stem, seed, architecture, args):
    """Less usual members of the family; args as timm spells them."""
    model = randomise(VisionTransformer(**args, num_classes=CLASSES), seed)
    config = timm_config(architecture, model, args)
    save_model(os.path.join(out, stem), model.state_dict(), config)
    size = model.patch_embed.img_size
    golden = Golden(model, inputs(seed + 1, *size), {"weights": seed, "input": seed + 1})
    golden.add("logits", lambda m, x, cast: ref.logits(m, x))
    golden.each("gradient", lambda m, x, y, of, cast: ref.gradient(m, x, y, of), "probability",
                ("target",))
    add_attention_results(golden, 1, full=False, pooled=model.global_pool == "avg")
    golden.save(out, stem, config)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default=os.path.dirname(os.path.abspath(__file__)))
    out = parser.parse_args().out
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    make_tiny(out)
    make_distilled(out)
    make_variant(out, "vit_mean", 301, "vit_tiny_patch16_224",
                 {"img_size": [12, 20], "patch_size": 4, "embed_dim": 20, "depth": 2,
                  "num_heads": 4, "mlp_ratio": 2.0, "global_pool": "avg"})
    make_variant(out, "vit_mean_no_token", 401, "vit_tiny_patch16_224",
                 {"img_size": [12, 12], "patch_size": 4, "embed_dim": 16, "depth": 2,
                  "num_heads": 2, "mlp_ratio": 2.0, "global_pool": "avg", "class_token": False})
    make_variant(out, "vit_registers", 501, "vit_tiny_patch16_224",
                 {"img_size": [8, 12], "patch_size": 4, "embed_dim": 20, "depth": 2, "num_heads": 2,
                  "mlp_ratio": 2.0, "class_token": True, "no_embed_class": True, "reg_tokens": 2,
                  "init_values": 1e-5, "pre_norm": True, "qkv_bias": False})


if __name__ == "__main__":
    main()
