"""Writes what PyTorch says about convolutional classifiers.

    python tests/golden/make_cnn.py [--out tests/golden]

Needs torch, torchvision, timm, transformers, safetensors.

cnn.golden.safetensors: results of tiny models, computed in float64. Weights and inputs are not
stored: both sides draw them with `draw`, whose numbers a name, a seed and an index determine.
cnn.json: their seeds and sizes; for full-size architectures a digest of the tensors' names and shapes.
cnn_resnet_hub: one of the tiny models as transformers saves it.
"""
import argparse
import copy
import functools
import json
import os

import numpy as np
import safetensors.torch
import timm
import torch
import torchvision
import transformers
from timm.models._efficientnet_builder import decode_arch_def, round_channels
from timm.models.efficientnet import EfficientNet
from torch import nn
from torchvision.models import mobilenetv2, resnet, vgg

CLASSES = 7
BATCH = 2
STRIDE = 7  # of the gradients that are kept

U = np.uint64


def mixed(x):
    with np.errstate(over="ignore"):
        x = x + U(0x9E3779B97F4A7C15)
        x = (x ^ (x >> U(30))) * U(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> U(27))) * U(0x94D049BB133111EB)
        return x ^ (x >> U(31))


def draw(name, seed, count):
    """Mean 0, variance 1: sums of four uniform numbers."""
    stream = mixed(np.array([seed], dtype=U))
    for c in name.encode():
        stream = mixed(stream ^ U(c))
    index = np.arange(count, dtype=U)
    total = np.zeros(count)
    for k in range(4):
        total = total + (mixed(stream ^ mixed(U(4) * index + U(k))) >> U(11)).astype(float) * 2.0 ** -53
    return (total - 2.0) * 1.7320508075688772


def filled(model, seed):
    """Every parameter and statistic by its stored name."""
    for name, t in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        z = draw(name, seed, t.numel())
        if name.endswith("running_var"):
            z = 1 + 0.2 * z
        elif name.endswith("running_mean"):
            z = 0.2 * z
        elif name.endswith("bias"):
            z = 0.1 * z
        elif t.dim() == 1:
            z = 1 + 0.2 * z
        elif t.dim() == 4:
            z = (2 / t[0].numel()) ** 0.5 * z
        else:
            z = (1 / t[0].numel()) ** 0.5 * z
        t.copy_(torch.from_numpy(z.astype(np.float32)).reshape(t.shape))
    return model.eval()


# --- tiny models ----------------------------------------------------------------------------------


class TinyResNet(resnet.ResNet):
    """torchvision's, with other widths than 64, 128, 256, 512."""

    def __init__(self, block, blocks, stem, planes, groups=1, base_width=64):
        nn.Module.__init__(self)
        self._norm_layer = nn.BatchNorm2d
        self.inplanes, self.dilation, self.groups, self.base_width = stem, 1, groups, base_width
        self.conv1 = nn.Conv2d(3, stem, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        for i in range(4):
            layer = self._make_layer(block, planes[i], blocks[i], stride=1 if i == 0 else 2)
            setattr(self, f"layer{i + 1}", layer)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(planes[3] * block.expansion, CLASSES)


def tiny_mobilenet():
    m = mobilenetv2.MobileNetV2(num_classes=CLASSES, width_mult=0.125)
    m.features[18] = mobilenetv2.Conv2dNormActivation(40, 24, kernel_size=1, activation_layer=nn.ReLU6)
    m.classifier = nn.Sequential(nn.Dropout(), nn.Linear(24, CLASSES))
    return m


def tiny_mobilenet_timm():
    rows = [["ds_r1_k3_s1_c16"], ["ir_r2_k3_s2_e6_c24"], ["ir_r3_k3_s2_e6_c32"], ["ir_r4_k3_s2_e6_c64"],
            ["ir_r3_k3_s1_e6_c96"], ["ir_r3_k3_s2_e6_c160"], ["ir_r1_k3_s1_e6_c320"]]
    return EfficientNet(decode_arch_def(rows, depth_multiplier=0.4), num_classes=CLASSES, num_features=16,
                        stem_size=8, fix_stem=True, act_layer=nn.ReLU6,
                        round_chs_fn=functools.partial(round_channels, multiplier=0.1))


def tiny_vgg(batch_norm, pooled):
    plan = [6, "M", 8, 8, "M", 10, "M", 12, 10, "M", 8, "M"]
    m = vgg.VGG(vgg.make_layers(plan, batch_norm), init_weights=False)
    m.avgpool = nn.AdaptiveAvgPool2d(pooled)
    m.classifier = nn.Sequential(nn.Linear(8 * pooled * pooled, 20), nn.ReLU(), nn.Dropout(),
                                 nn.Linear(20, 18), nn.ReLU(), nn.Dropout(), nn.Linear(18, CLASSES))
    return m


def tiny_hub(**kwargs):
    config = transformers.ResNetConfig(num_labels=CLASSES, **kwargs)
    return transformers.ResNetForImageClassification(config)


# Name: model, image height and width, the module whose output is the last feature map.
TINY = {
    "resnet_basic": (lambda: TinyResNet(resnet.BasicBlock, [2, 1, 1, 2], 6, [6, 8, 10, 12]), 45, 66,
                     lambda m: m.layer4),
    "resnet_grouped": (lambda: TinyResNet(resnet.Bottleneck, [1, 2, 1, 1], 8, [4, 8, 12, 16], 2, 48),
                       40, 33, lambda m: m.layer4),
    "resnet_hub_first": (lambda: tiny_hub(embedding_size=8, hidden_sizes=[16, 24, 32, 40],
                                          depths=[1, 2, 1, 1], downsample_in_bottleneck=True),
                         48, 39, lambda m: m.resnet.encoder),
    "resnet_hub_basic": (lambda: tiny_hub(embedding_size=6, hidden_sizes=[6, 8, 10, 12],
                                          depths=[2, 1, 1, 1], layer_type="basic",
                                          downsample_in_first_stage=True),
                         50, 70, lambda m: m.resnet.encoder),
    "mobilenet": (tiny_mobilenet, 41, 48, lambda m: m.features),
    "mobilenet_timm": (tiny_mobilenet_timm, 48, 37, lambda m: m.bn2),
    "vgg": (lambda: tiny_vgg(False, 2), 40, 65, lambda m: m.features[-2]),
    "vgg_bn": (lambda: tiny_vgg(True, 2), 96, 39, lambda m: m.features[-2]),
}


def inputs(name, seed, height, width):
    z = draw("input." + name, seed, BATCH * 3 * height * width).astype(np.float32)
    return torch.from_numpy(z).reshape(BATCH, 3, height, width)


def results(model, x, last):
    seen = []
    handle = last(model).register_forward_hook(
        lambda m, i, o: seen.append(o if torch.is_tensor(o) else o.last_hidden_state))
    x = x.clone().requires_grad_()
    y = model(x)
    y = y if torch.is_tensor(y) else y.logits
    handle.remove()
    targets = [(2 * b + 1) % CLASSES for b in range(BATCH)]
    g, = torch.autograd.grad(sum(y[b, t] for b, t in enumerate(targets)), x)
    return {"logits": y.detach(), "features": seen[0].detach(),
            "gradient": g.flatten()[::STRIDE].clone(),
            "gradient_dot_input": (g * x).flatten(1).sum(1).detach()}


def tiny_results(name):
    make, height, width, last = TINY[name]
    # A rectifier near its kink makes the float32 gradient another function's: such seeds tell
    # nothing about a float32 build.
    for seed in range(1, 50):
        single = filled(make(), seed)
        double = copy.deepcopy(single).double()
        x = inputs(name, seed, height, width)
        want, got = results(double, x.double(), last), results(single, x, last)
        error = max(((got[k].double() - want[k]).abs().max() / want[k].abs().max()).item() for k in want)
        sharp = want["logits"].std(0).max() > 0.05
        if error < 3e-6 and sharp:
            return dict(seed=seed, height=height, width=width, f32_error=float(f"{error:.2g}")), want
    raise SystemExit(f"{name}: no seed is far from kinks")


# --- names ----------------------------------------------------------------------------------------


def listing(model):
    tensors = {k: list(t.shape) for k, t in model.state_dict().items()
               if not k.endswith("num_batches_tracked")}
    h = 0xCBF29CE484222325
    for name in sorted(tensors):
        for c in f"{name} {tensors[name]}\n".encode():
            h = ((h ^ c) * 0x100000001B3) & (2 ** 64 - 1)
    return {"tensors": len(tensors), "parameters": sum(p.numel() for p in model.parameters()),
            "digest": f"{h:016x}"}


def names():
    for init in ("kaiming_normal_", "kaiming_uniform_", "normal_", "uniform_", "trunc_normal_"):
        setattr(nn.init, init, lambda t, *args, **kwargs: t)  # values do not matter, and take long
    found = {"torchvision": {}, "timm": {}, "hub": {}}
    for n in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2",
              "wide_resnet101_2", "resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d",
              "mobilenet_v2", "vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn",
              "vgg16_bn", "vgg19_bn"):
        found["torchvision"][n] = listing(getattr(torchvision.models, n)())
    for n in ("resnet18", "resnet26", "resnet34", "resnet50", "resnet101", "resnet152",
              "wide_resnet50_2", "resnext50_32x4d", "resnext101_32x8d", "mobilenetv2_035",
              "mobilenetv2_050", "mobilenetv2_075", "mobilenetv2_100", "mobilenetv2_140",
              "mobilenetv2_110d", "mobilenetv2_120d"):
        found["timm"][n] = listing(timm.create_model(n))
    for n, depths in ((18, [2, 2, 2, 2]), (34, [3, 4, 6, 3]), (50, [3, 4, 6, 3]),
                      (101, [3, 4, 23, 3]), (152, [3, 8, 36, 3])):
        small = n < 50
        config = transformers.ResNetConfig(
            depths=depths, num_labels=1000, layer_type="basic" if small else "bottleneck",
            hidden_sizes=[64, 128, 256, 512] if small else [256, 512, 1024, 2048])
        found["hub"][f"resnet{n}"] = listing(transformers.ResNetForImageClassification(config))
    return found


def save_hub(out, seed):
    model = filled(TINY["resnet_hub_first"][0](), seed)
    model.save_pretrained(os.path.join(out, "cnn_resnet_hub"), safe_serialization=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default=os.path.dirname(os.path.abspath(__file__)))
    out = parser.parse_args().out
    tensors, about = {}, {}
    for name in TINY:
        about[name], found = tiny_results(name)
        print(name, about[name], [tuple(t.shape) for t in found.values()])
        tensors.update({f"{name}.{k}": t.contiguous() for k, t in found.items()})
    save_hub(out, about["resnet_hub_first"]["seed"])
    safetensors.torch.save_file(tensors, os.path.join(out, "cnn.golden.safetensors"))
    versions = {m.__name__: m.__version__ for m in (torch, torchvision, timm, transformers, np)}
    lines = {"versions": versions, "tiny": about, "names": names()}
    with open(os.path.join(out, "cnn.json"), "w") as f:
        f.write(json.dumps(lines, indent=1) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
