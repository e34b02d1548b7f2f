"""Writes what Captum says about a convolutional classifier: DeepLIFT and DeepLiftShap.

    python tests/golden/make_deeplift.py [--out tests/golden]

Needs captum beside what make_cnn.py needs, whose tiny models these are.

deeplift.golden.safetensors: every STRIDE-th value of attributions, computed in float64, item by item:
Captum's max-pool takes the gradient of the first item of a batch where values do not differ.
"""
import argparse
import copy
import json
import os

import safetensors.torch
import torch
from captum.attr import DeepLift, DeepLiftShap
from captum.attr._core import deep_lift
from torch import nn

import make_cnn

MODELS = ("vgg", "vgg_bn")
BASELINES = 3
STRIDE = 23

# Captum subtracts the mean over the whole batch, references included, from softmax's multipliers.
deep_lift.SUPPORTED_NON_LINEAR[nn.Softmax] = deep_lift.nonlinear


class Apart(nn.Module):
    def forward(self, x):
        return x.view_as(x)


def separate(model):
    """The same, with activations that do not overwrite what Captum looks at, and pools that do not
    read an activation's own tensor: its hooks there would run in the wrong order, and sums would not
    add up."""
    for parent in list(model.modules()):
        for name, m in parent.named_children():
            if hasattr(m, "inplace"):
                m.inplace = False
            if isinstance(m, nn.MaxPool2d):
                setattr(parent, name, nn.Sequential(Apart(), m))
    return model


def results(model, x, baselines):
    probability = nn.Sequential(model, nn.Softmax(-1))
    found = {}

    def put(key, method, **kwargs):
        each = []
        for i in range(len(x)):
            a, delta = method.attribute(x[i:i + 1], target=(2 * i + 1) % make_cnn.CLASSES,
                                        return_convergence_delta=True, **kwargs)
            assert not method.multiplies_by_inputs or delta.abs().max() < 1e-5 * a.abs().sum()
            each.append(a)
        found[key] = torch.cat(each).detach().flatten()[::STRIDE].contiguous()

    one = baselines[:1]
    put("zero", DeepLift(model))
    put("baseline", DeepLift(model), baselines=one)
    put("multipliers", DeepLift(model, multiply_by_inputs=False), baselines=one)
    put("probability", DeepLift(probability), baselines=one)
    put("shap", DeepLiftShap(model), baselines=baselines)
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default=os.path.dirname(os.path.abspath(__file__)))
    out = parser.parse_args().out
    about = json.load(open(os.path.join(out, "cnn.json")))["tiny"]
    tensors = {}
    for name in MODELS:
        seed, height, width = (about[name][k] for k in ("seed", "height", "width"))
        single = separate(make_cnn.filled(make_cnn.TINY[name][0](), seed))
        x = make_cnn.inputs(name, seed, height, width)
        z = make_cnn.draw("baseline." + name, seed, BASELINES * 3 * height * width)
        baselines = torch.from_numpy(z.astype("float32")).reshape(BASELINES, 3, height, width)
        want = results(copy.deepcopy(single).double(), x.double(), baselines.double())
        got = results(single, x, baselines)
        for k in want:
            error = (got[k].double() - want[k]).abs().max() / want[k].abs().max()
            print(f"{name}.{k}: largest {want[k].abs().max():.3g}, float32 is off by {error:.2g}")
            tensors[f"{name}.{k}"] = want[k]
    safetensors.torch.save_file(tensors, os.path.join(out, "deeplift.golden.safetensors"))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
