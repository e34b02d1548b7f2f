"""Full-size vision transformers: whence beside PyTorch.

    peer_vit.py check --whence BIN --work DIR     the same numbers? (explain of the command line)
    peer_vit.py speed --bench BIN                 the same work, faster? (a bench program's --json)

Weights are random, from a seed, scaled so that attention is far from uniform and logits differ
between inputs: no checkpoint is needed. Python needs torch, timm, safetensors, numpy, Pillow;
`check` also scikit-image and scikit-learn, whose wheels carry the photographs.

The BLAS behind torch decides its speed. Debian's torch calls whatever libblas.so.3 is, and the
reference BLAS is fifty times too slow to be a peer: name a good one with --preload (MKL from its
wheel: --preload "libgomp.so.1 .../libmkl_core.so.3 .../libmkl_gnu_thread.so.3
.../libmkl_intel_lp64.so.3"). `speed` measures torch's matrix product and prints it beside whence's
peak.
"""
import argparse
import hashlib
import inspect
import json
import os
import shlex
import shutil
import subprocess
import sys

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "tests", "golden"))

MODELS = {"vit": "vit_base_patch16_224", "deit": "deit_base_distilled_patch16_224"}


def random_model(name, seed):
    """timm model with weights of natural scale: LayerNorm gives unit variance, so a matrix of
    variance 1/fan_in keeps it; queries and keys get more, to spread the attention logits."""
    import timm
    import torch
    import vit_reference as ref
    model = timm.create_model(name, pretrained=False)
    g = torch.Generator().manual_seed(seed)
    for key, p in sorted(model.named_parameters()):
        z = torch.randn(p.shape, generator=g)
        if "norm" in key and key.endswith("weight"):
            z = 1 + 0.1 * z
        elif key.endswith("bias"):
            z = 0.1 * z
        elif key.endswith("token") or key == "pos_embed":
            z = 0.3 * z
        else:
            # A strong projection would make all tokens alike, and attention uniform in late blocks.
            gain = {"proj": 0.5, "head": 1.5, "head_dist": 1.5}.get(key.split(".")[-2], 1.0)
            z = z * (0.9 if key.startswith("patch_embed") else gain) / p[0].numel() ** 0.5
            if ".qkv." in key:
                z[:2 * p.shape[1]] *= 2
        p.data.copy_(z)
    return ref.unfuse_attention(model)


# --- check ----------------------------------------------------------------------------------------


def save_model(model, name, folder):
    import safetensors.torch
    os.makedirs(folder, exist_ok=True)
    state = {k: v.contiguous() for k, v in model.state_dict().items()}
    safetensors.torch.save_file(state, os.path.join(folder, "model.safetensors"), {"format": "pt"})
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump({"architecture": name, "num_classes": model.num_classes,
                   "num_features": model.embed_dim, "global_pool": model.global_pool,
                   "pretrained_cfg": {"input_size": [3, 224, 224], "interpolation": "bicubic",
                                      "crop_pct": 0.9, "mean": [0.5] * 3, "std": [0.5] * 3,
                                      "num_classes": model.num_classes,
                                      "first_conv": "patch_embed.proj", "classifier": "head"}},
                  f, indent=1)


def photographs(folder, count):
    """PNG files and model inputs [1,3,224,224]. astronaut: NASA, public domain; coffee, chelsea:
    CC0 (scikit-image); china, flower: CC BY (scikit-learn)."""
    from PIL import Image
    import skimage.data
    import sklearn.datasets
    sources = {"astronaut": skimage.data.astronaut, "coffee": skimage.data.coffee,
               "china": lambda: sklearn.datasets.load_sample_image("china.jpg"),
               "flower": lambda: sklearn.datasets.load_sample_image("flower.jpg"),
               "chelsea": skimage.data.chelsea}
    os.makedirs(folder, exist_ok=True)
    out = []
    for name in list(sources)[:count]:
        image = Image.fromarray(sources[name]())
        image.save(os.path.join(folder, name + ".png"))
        scale = 249 / min(image.size)
        image = image.resize([round(s * scale) for s in image.size], Image.BICUBIC)
        left, top = (image.width - 224) // 2, (image.height - 224) // 2
        pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32)
        x = ((pixels / 255 - 0.5) / 0.5).transpose(2, 0, 1)[None].astype(np.float32)
        path = os.path.join(folder, name + ".npy")
        np.save(path, np.ascontiguousarray(x))
        out.append((name, path, x))
    return out


class Case:
    """One method with options: its line for whence, its function for torch. draws: path and array
    [samples, images, C, H, W] of standard normal numbers."""

    def __init__(self, method, compute, target=None, draws=None, **options):
        self.method, self.compute, self.target, self.draws = method, compute, target, draws
        self.options = options

    @property
    def title(self):
        parts = [f"{k}={v}" for k, v in self.options.items()]
        if self.target is not None:
            parts.append(f"target={self.target}")
        return " ".join([self.method] + parts)

    def run(self, model, x, labels, image):
        if self.draws is None:
            return self.compute(model, x, labels)
        return self.compute(model, x, labels, self.draws[1][:, image:image + 1].to(x.dtype))


def cases(full, draws_path, images):
    import torch
    import vit_reference as ref
    path_steps, tam_steps, count = (50, 20, 10) if full else (8, 6, 3)
    seeds = [torch.Generator().manual_seed(7 + i) for i in range(images)]
    draws = torch.stack([torch.randn(count, 3, 224, 224, generator=g) for g in seeds], 1)
    np.save(draws_path, draws.numpy())
    out = []
    for of in ("probability", "logit", "loss"):
        out.append(Case("gradient", lambda m, x, y, of=of: ref.gradient(m, x, y, of),
                        gradient_of=of))
    out.append(Case("gradient", lambda m, x, y: ref.gradient(m, x, y, "logit"), target=207,
                    gradient_of="logit"))
    out.append(Case("input-x-gradient", lambda m, x, y: ref.input_x_gradient(m, x, y, "logit"),
                    gradient_of="logit"))
    for rule in ("endpoint_mean", "gausslegendre"):
        out.append(Case("integrated-gradients", lambda m, x, y, rule=rule: ref.integrated_gradients(
            m, x, y, "probability", rule, path_steps)[0], rule=rule, steps=path_steps,
            gradient_of="probability"))
    out.append(Case("smoothgrad", ref.smoothgrad, draws=(draws_path, draws), n_samples=count,
                    noise_amount=0.1, gradient_of="probability"))
    out.append(Case("attention-last", lambda m, x, y: ref.attention_last(m, x)))
    out.append(Case("attention-grad-cam", lambda m, x, y: ref.attention_grad_cam(m, x, y)))
    for start in (0, 1):
        out.append(Case("rollout", lambda m, x, y, s=start: ref.rollout(m, x, s),
                        start_layer=start))
    for rule, start, of, target in (("paper", 0, "logit", None), ("paper", 0, "logit", 207),
                                    ("paper", 1, "probability", None),
                                    ("interpretdl", 3, "probability", None)):
        out.append(Case("generic-attention", lambda m, x, y, rule=rule, start=start, of=of:
                        ref.generic_attention(m, x, y, of, rule, start), target=target, rule=rule,
                        start_layer=start, gradient_of=of))
    for start, of in ((4, "probability"), (0, "logit")):
        out.append(Case("tam", lambda m, x, y, s=start, o=of: ref.tam(m, x, y, o, s, tam_steps),
                        start_layer=start, steps=tam_steps, gradient_of=of))
    return out


def torch_result(cache, key, compute):
    """Torch's answers are kept: a rerun with another build of whence costs only whence's time."""
    path = os.path.join(cache, hashlib.sha256(key.encode()).hexdigest()[:24] + ".npy")
    if not os.path.exists(path):
        np.save(path + ".part.npy", compute().detach().numpy())
        os.replace(path + ".part.npy", path)
    return np.load(path)


def code_digest():
    """Of everything that decides torch's answers."""
    import vit_reference as ref
    text = inspect.getsource(random_model) + inspect.getsource(photographs) + inspect.getsource(ref)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def run_whence(args, model_dir, case, inputs, out):
    shutil.rmtree(out, ignore_errors=True)
    command = [args.whence, "explain", "-m", model_dir, "--method", case.method, "-o", out,
               "--device", args.device, "--threads", str(args.threads), "--save", "npy,json,logits"]
    for name, value in case.options.items():
        command += ["-p", f"{args.rename.get(name, name)}={args.rename.get(str(value), value)}"]
    if case.target is not None:
        command += ["-t", str(case.target)]
    if case.draws is not None:
        command += ["--draws", case.draws[0]]
    done = subprocess.run(command + inputs, capture_output=True, text=True)
    lines = done.stderr.strip().splitlines()
    return done.returncode, lines[-1] if lines else ""


def read_output(out, name, what):
    """An input of one sample may be numbered or not."""
    for stem in (name, name + "-0000"):
        path = os.path.join(out, f"{stem}.{what}.npy")
        if os.path.exists(path):
            return np.load(path)
    return None


def distance(got, want):
    """(relative L2, largest difference / largest magnitude); infinite for a wrong shape or NaN."""
    want = want[0].astype(np.float64)
    if got is None or got.shape != want.shape or not np.isfinite(got).all():
        return float("inf"), float("inf")
    diff = got.astype(np.float64) - want
    return (float(np.linalg.norm(diff) / np.linalg.norm(want)),
            float(abs(diff).max() / abs(want).max()))


def describe(model, photos, torch, ref):
    """Shows that the random model is not a degenerate one."""
    for name, _, x in photos:
        out, probs, _ = ref.attention(model, torch.from_numpy(x))
        p = probs[-1]
        entropy = -(p * p.clamp(min=1e-30).log()).sum(-1).mean() / np.log(p.shape[-1])
        top = out.softmax(1).max(1)
        print(f"  {name}: class {top.indices.item()}, probability {top.values.item():.4f}, logits' "
              f"deviation {out.std().item():.2f}, entropy of the last attention "
              f"{entropy.item():.2f} of uniform")


def check(args):
    import torch
    import vit_reference as ref
    torch.set_num_threads(args.threads)
    os.makedirs(os.path.join(args.work, "torch"), exist_ok=True)
    photos = photographs(os.path.join(args.work, "photographs"), args.images)
    todo = cases(args.full, os.path.join(args.work, "draws.npy"), args.images)
    todo = [c for c in todo if not args.only or c.method in args.only]
    rows, seed, digest = [], 11, code_digest()
    for short in args.models:
        model = random_model(MODELS[short], seed)
        folder = os.path.join(args.work, MODELS[short])
        save_model(model, MODELS[short], folder)
        model = model.double() if args.double else model
        cast = (lambda x: torch.from_numpy(x).double()) if args.double else torch.from_numpy
        print(f"{MODELS[short]}, torch in {'float64' if args.double else 'float32'}", flush=True)
        if not args.double:
            describe(model, photos, torch, ref)
        for index, case in enumerate(todo):
            out = os.path.join(args.work, "whence", f"{short}-{index}")
            rc, message = (0, "") if not args.whence else run_whence(
                args, folder, case, [p for _, p, _ in photos], out)
            for image, (name, _, x) in enumerate(photos):
                xt = cast(x)
                cache, key = args.work + "/torch", f"{digest} {short} {seed} {args.double} {name} "
                logits = torch_result(cache, key + "logits", lambda: ref.logits(model, xt))
                y = torch.tensor([case.target if case.target is not None else int(logits.argmax())])
                want = torch_result(cache, key + case.title, lambda: case.run(model, xt, y, image))
                if not args.whence:
                    print(f"  {case.title} {name}: max {abs(want).max():.3g}", flush=True)
                    continue
                pairs = [(case.title, read_output(out, name, case.method), want)]
                if index == 0:
                    pairs.append(("logits", read_output(out, name, "logits"), logits))
                for title, got, expected in pairs:
                    l2, peak = distance(got, expected)
                    rows.append({"model": short, "image": name, "method": title, "rel_l2": l2,
                                 "max_over_max": peak, "pass": max(l2, peak) <= args.tolerance,
                                 "exit": rc, "message": message if got is None else ""})
                    print(f"  {'pass' if rows[-1]['pass'] else 'FAIL'}  {l2:9.2e}  {peak:9.2e}  "
                          f"{name:10s} {title}  {rows[-1]['message']}", flush=True)
    failed = sum(not r["pass"] for r in rows)
    print(f"{len(rows)} comparisons, {failed} over {args.tolerance:g} (relative L2, and largest "
          "difference over largest magnitude)")
    write_json(args.out, {"tolerance": args.tolerance, "rows": rows})
    return 1 if failed else 0


# --------------------------------------------------------------------------------------------------


def time_both(args):
    from peer_vit_speed import speed
    write_json(args.out, speed(args, random_model(MODELS["vit"], 11)))
    return 0


def write_json(path, value):
    if path:
        with open(path, "w") as f:
            json.dump(value, f, indent=1)
            f.write("\n")


def preload(args):
    """A library can only be put before torch's BLAS at the start of a process."""
    if args.preload and os.environ.get("PEER_VIT_PRELOADED") != args.preload:
        folders = {os.path.dirname(p) for p in args.preload.split() if "/" in p}
        env = dict(os.environ, LD_PRELOAD=args.preload, PEER_VIT_PRELOADED=args.preload,
                   LD_LIBRARY_PATH=":".join(sorted(folders)),
                   OPENBLAS_NUM_THREADS=str(args.threads))
        os.execve(sys.executable, [sys.executable, *sys.argv], env)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    c = commands.add_parser("check", help="compare the results of whence explain with torch")
    c.add_argument("--whence", help="the binary; without it torch's side is computed and kept")
    c.add_argument("--work", required=True, help="folder for models (330 MB each), inputs, results")
    c.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    c.add_argument("--images", type=int, default=3)
    c.add_argument("--full", action="store_true",
                   help="published step counts (50, 20) instead of 8 and 6")
    c.add_argument("--double", action="store_true", help="torch in float64")
    c.add_argument("--device", default="cpu")
    c.add_argument("--tolerance", type=float, default=1e-4)
    c.add_argument("--rename", nargs="*", default=[], metavar="OURS=THEIRS",
                   help="option names or values that the binary spells otherwise")
    s = commands.add_parser("speed", help="time whence and torch in turn")
    s.add_argument("--bench", "--whence", help="program whose --json prints peak_gflops and results")
    s.add_argument("--bench-args", type=shlex.split, default=[],
                   help="its further arguments in one string; {name}: one run per operation")
    s.add_argument("--rounds", type=int, default=5)
    s.add_argument("--tam-steps", type=int, default=20)
    s.add_argument("--path-steps", type=int, default=50)
    s.add_argument("--chunk", type=int, default=4, help="steps per pass in torch's best version")
    s.add_argument("--peak-gflops", type=float, help="instead of what the bench program measures")
    s.add_argument("--skip-agreement", action="store_true")
    for p in (c, s):
        p.add_argument("--only", nargs="+", help="method ids")
        p.add_argument("--threads", type=int, default=2)
        p.add_argument("--out", help="write the results there as JSON")
        p.add_argument("--preload", help="libraries for LD_PRELOAD, the BLAS torch shall call")
    args = parser.parse_args()
    if args.command == "check":
        args.rename = dict(r.split("=", 1) for r in args.rename)
        if args.whence:
            args.whence = os.path.abspath(args.whence)
        args.work = os.path.abspath(args.work)
    preload(args)
    sys.exit({"check": check, "speed": time_both}[args.command](args))


if __name__ == "__main__":
    main()
