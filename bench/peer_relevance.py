"""Relevance of full-size models: whence beside PyTorch.

    peer_relevance.py check --whence BIN --work DIR    the same numbers? (explain of the command line)
    peer_relevance.py speed --bench BIN                the same work, faster? (a bench program's --json)

Weights are random, from a seed. Torch computes in float64, which is the judge; `float32` is what the
same code gives in float32 against it, and `storage` what it gives in float64 when only the outputs of
the layers are rounded to float32: no program that keeps activations in float32 can count on less.
Both are yardsticks for a float build of whence. Python needs
torch, torchvision, timm, safetensors, numpy, Pillow; `check` also scikit-image and scikit-learn. For
--preload see peer_vit.py.

`speed`: *published* propagates relevance the way the public code does (tests/golden/lrp_reference.py:
every rule a local forward and an autograd backward, both branches of the alpha-beta rule); *best*
leaves out the branch that is multiplied by zero. Torch and whence run in turn.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(HERE, "..", "tests", "golden"))

import peer_vit  # noqa: E402

MODELS = ("vit", "resnet50", "mobilenet_v2")


def random_cnn(name, seed, inputs):
    """Random weights; the statistics of the norms are those of the inputs."""
    import torch
    import torchvision
    torch.manual_seed(seed)
    model = getattr(torchvision.models, name)(weights=None)
    g = torch.Generator().manual_seed(seed)
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for m in norms:
        m.weight.data = 1 + 0.2 * torch.randn(m.weight.shape, generator=g)
        m.bias.data = 0.2 * torch.randn(m.bias.shape, generator=g)
        m.momentum = None
    with torch.no_grad():
        model.train()(inputs)
    return model.eval()


def make_model(name, inputs):
    if name == "vit":
        return peer_vit.random_model(peer_vit.MODELS["vit"], 11).eval()
    return random_cnn(name, 5, inputs)


def save(model, name, work):
    """What `--model` is given."""
    import safetensors.torch
    if name == "vit":
        folder = os.path.join(work, peer_vit.MODELS["vit"])
        peer_vit.save_model(model, peer_vit.MODELS["vit"], folder)
        return [folder]
    path = os.path.join(work, name + ".safetensors")
    safetensors.torch.save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path,
                                {"format": "pt"})
    return [path, "--arch", name]


def cases(name):
    """Method, options of whence, torch's function, relative L2 that is allowed."""
    import lrp_reference as lrp
    import vit_reference as ref
    of_logit = lambda m, x, y: ref.gradient(m, x, y, "logit")
    if name == "vit":
        out = [("gradient", {"gradient_of": "logit"}, of_logit, 1e-4)]
        for rules in ("stable", "classic"):
            for start in (0, 1, 6):
                out.append(("transformer-attribution",
                            {"rules": "chefer-" + rules, "start_layer": start},
                            lambda m, x, y, r=rules, s=start: lrp.transformer_attribution(m, x, y, r, s),
                            1e-3))
            out.append(("partial-lrp", {"rules": "chefer-" + rules},
                        lambda m, x, y, r=rules: lrp.partial_lrp(m, x, y, r), 1e-3))
            out.append(("full-lrp", {"rules": "chefer-" + rules},
                        lambda m, x, y, r=rules: lrp.full_lrp(m, x, y, r), 1e-3))
        return out
    out = [("gradient", {"gradient_of": "logit"}, of_logit, 1e-4),
           ("integrated-gradients", {"steps": 4, "rule": "gausslegendre", "gradient_of": "logit"},
            lambda m, x, y: ref.integrated_gradients(m, x, y, "logit", "gausslegendre", 4)[0], 1e-4)]
    for rules in ("interpretdl", "captum", "epsilon-plus", "epsilon-plus-flat",
                  "epsilon-alpha2-beta1"):
        out.append(("lrp", {"rules": rules},
                    lambda m, x, y, r=rules: lrp.lrp(m, x, y, r), 1e-3))
    return out


def rounded_between_layers(model):
    """The model in float64, with every layer's output rounded to float32."""
    import torch

    def rounded(_, __, y):
        # to() would lose the gradient's precision too
        return y + (y.detach().float().double() - y.detach())

    for m in model.modules():
        if not list(m.children()) and not isinstance(m, torch.nn.Identity):
            m.register_forward_hook(rounded)
    return model


def run_whence(args, model, method, options, inputs, out):
    command = [args.whence, "explain", "-m", *model, "--method", method, "-o", out, "--threads",
               str(args.threads), "--save", "npy,json,logits"]
    for key, value in options.items():
        command += ["-p", f"{key}={value}"]
    done = subprocess.run(command + inputs, capture_output=True, text=True)
    if done.returncode:
        print("  " + done.stderr.strip().splitlines()[-1])


def check(args):
    import torch
    torch.set_num_threads(args.threads)
    os.makedirs(args.work, exist_ok=True)
    photos = peer_vit.photographs(os.path.join(args.work, "photographs"), args.images)
    inputs = torch.from_numpy(np.concatenate([x for _, _, x in photos]))
    rows = []
    for name in args.models:
        model = make_model(name, inputs)
        given = save(model, name, args.work)
        exact = make_model(name, inputs).double()
        stored = rounded_between_layers(make_model(name, inputs).double())
        labels = exact(inputs.double()).argmax(1)
        print(name, flush=True)
        for method, options, compute, bound in cases(name):
            title = " ".join([method] + [f"{k}={v}" for k, v in options.items()])
            if args.only and method not in args.only:
                continue
            out = os.path.join(args.work, "whence", f"{name}-{title}".replace(" ", "_"))
            run_whence(args, given, method, options, [p for _, p, _ in photos], out)
            for i, (image, _, x) in enumerate(photos):
                xi = torch.from_numpy(x)
                want = compute(exact, xi.double(), labels[i:i + 1]).detach().numpy()
                f32 = compute(model, xi, labels[i:i + 1]).detach().numpy()
                kept = compute(stored, xi.double(), labels[i:i + 1]).detach().numpy()
                got = peer_vit.read_output(out, image, method)
                l2, peak = peer_vit.distance(got, want)
                yard = peer_vit.distance(f32[0], want)[0]
                storage = peer_vit.distance(kept[0], want)[0]
                rows.append({"model": name, "image": image, "method": title, "rel_l2": l2,
                             "max_over_max": peak, "torch_float32": yard, "storage": storage,
                             "bound": bound})
                print(f"  {l2:9.2e}  {peak:9.2e}  float32 {yard:9.2e}  storage {storage:9.2e}  "
                      f"{'' if l2 <= bound else 'over'}  {image:10s} {title}", flush=True)
    over = [r for r in rows if not r["rel_l2"] <= r["bound"]]
    # Denominators that cancel make relevance in float32 a matter of luck, for torch as for whence:
    # over many comparisons neither may be luckier.
    ratio = float(np.exp(np.mean([np.log(r["rel_l2"] / r["torch_float32"]) for r in rows])))
    print(f"{len(rows)} comparisons with torch's float64, {len(over)} over their bound (relative L2); "
          f"on average {ratio:.2f} times as far away as torch's own float32")
    peer_vit.write_json(args.out, {"rows": rows, "ratio": ratio})
    return 1 if over and not ratio <= 2 else 0


# --- speed ----------------------------------------------------------------------------------------

WORK = {"transformer-attribution": "vit", "resnet50-lrp": "resnet50",
        "resnet50-integrated-gradients": "resnet50", "resnet50-forward": "resnet50"}


def torch_work(args, models):
    import torch
    import lrp_reference as lrp
    import vit_reference as ref
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    label = torch.tensor([3])

    def attribution(published):
        lrp.transformer_attribution(models["vit"], x, label, "stable", 0, published)

    def relevance(published):
        lrp.lrp(models["resnet50"], x, label, "interpretdl", published)

    def path(published):
        """Published: one step at a time, gradients of the weights as well; best: chunks, none."""
        for p in models["resnet50"].parameters():
            p.requires_grad_(published)
        n = 1 if published else args.chunk
        for _ in range(args.path_steps // n):
            xs = x.repeat(n, 1, 1, 1).requires_grad_(True)
            models["resnet50"](xs).softmax(1)[:, 3].sum().backward()
            models["resnet50"].zero_grad()

    def forward(published):
        with torch.no_grad():
            models["resnet50"](x)

    return {"transformer-attribution": attribution, "resnet50-lrp": relevance,
            "resnet50-integrated-gradients": path, "resnet50-forward": forward}


def speed(args):
    import torch
    torch.set_num_threads(args.threads)
    names = [n for n in WORK if not args.only or n in args.only]
    x = torch.randn(4, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    models = {m: make_model(m, x) for m in {WORK[n] for n in names}}
    for model in models.values():
        model.requires_grad_(False)
    work = torch_work(args, models)
    rows = []
    for name in names:
        times = {"published": [], "best": [], "whence": []}
        for variant in ("published", "best"):
            if args.rounds > 1:
                work[name](variant == "published")  # warm up
        for _ in range(args.rounds):
            for variant in ("published", "best"):
                begin = time.perf_counter()
                work[name](variant == "published")
                times[variant].append(1e3 * (time.perf_counter() - begin))
            done = subprocess.run([args.bench, "--json", "--rounds", "2", "--threads",
                                   str(args.threads), "--only", name],
                                  capture_output=True, text=True, check=True)
            result = json.loads(done.stdout)["results"][0]
            times["whence"].append(result["median_ms"])
        medians = {k: statistics.median(v) for k, v in times.items()}
        rows.append({"name": name, "times": times, "medians": medians,
                     "times_faster": medians["published"] / medians["whence"]})
        print(f"{name}: published {medians['published']:.0f} ms, best {medians['best']:.0f}, whence "
              f"{medians['whence']:.0f}: {medians['published'] / medians['whence']:.2f} and "
              f"{medians['best'] / medians['whence']:.2f} times faster", flush=True)
    peer_vit.write_json(args.out, {"rows": rows})
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    c = commands.add_parser("check", help="compare the results of whence explain with torch")
    c.add_argument("--whence", required=True, type=os.path.abspath, help="the binary")
    c.add_argument("--work", required=True, type=os.path.abspath, help="folder for models, inputs, results")
    c.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    c.add_argument("--images", type=int, default=2)
    s = commands.add_parser("speed", help="time whence and torch in turn")
    s.add_argument("--bench", required=True, type=os.path.abspath,
                   help="program whose --json prints results")
    s.add_argument("--rounds", type=int, default=5)
    s.add_argument("--path-steps", type=int, default=50)
    s.add_argument("--chunk", type=int, default=5, help="steps per pass in torch's best version")
    for p in (c, s):
        p.add_argument("--only", nargs="+")
        p.add_argument("--threads", type=int, default=2)
        p.add_argument("--out", help="write the results there as JSON")
        p.add_argument("--preload", help="libraries for LD_PRELOAD, the BLAS torch shall call")
    args = parser.parse_args()
    peer_vit.preload(args)
    sys.exit({"check": check, "speed": speed}[args.command](args))


if __name__ == "__main__":
    main()
