"""Full-size vision transformers: whence beside PyTorch.

    peer_vit.py check --whence BIN --work DIR     the same numbers? (explain of the command line)
    peer_vit.py speed --bench BIN                 the same work, faster? (a bench program's --json)

Weights are random, from a seed, scaled so that attention is far from uniform and logits differ between
inputs: no checkpoint is needed. Python needs torch, timm, safetensors, numpy, Pillow; `check` also
scikit-image and scikit-learn, whose wheels carry the photographs.

The BLAS behind torch decides its speed. Debian's torch calls whatever libblas.so.3 is, and the reference
BLAS is fifty times too slow to be a peer: name a good one with --preload (MKL from its wheel:
--preload "libgomp.so.1 .../libmkl_core.so.3 .../libmkl_gnu_thread.so.3 .../libmkl_intel_lp64.so.3").
`speed` measures torch's matrix product and prints it beside whence's peak.
"""
import argparse
import hashlib
import json
import os
import shlex
import subprocess
import sys
import time

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "tests", "golden"))

MODELS = {"vit": "vit_base_patch16_224", "deit": "deit_base_distilled_patch16_224"}


def random_model(name, seed):
    """timm model with weights of natural scale: LayerNorm gives unit variance, so a matrix of variance
    1/fan_in keeps it; queries and keys get more, for attention logits of deviation about 1.7."""
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
            gain = 1.3 if ".qkv." in key else 1.5 if key.startswith("head") else 1.0
            z = z * gain / p[0].numel() ** 0.5
        p.data.copy_(z)
    return ref.unfuse_attention(model)


# --- check ----------------------------------------------------------------------------------------


def save_model(model, name, folder):
    import safetensors.torch
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "model.safetensors")
    if not os.path.exists(path):
        state = {k: v.contiguous() for k, v in model.state_dict().items()}
        safetensors.torch.save_file(state, path + ".part", {"format": "pt"})
        os.replace(path + ".part", path)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump({"architecture": name, "num_classes": model.num_classes,
                   "num_features": model.embed_dim, "global_pool": model.global_pool,
                   "pretrained_cfg": {"input_size": [3, 224, 224], "interpolation": "bicubic",
                                      "crop_pct": 0.9, "mean": [0.5] * 3, "std": [0.5] * 3,
                                      "num_classes": model.num_classes,
                                      "first_conv": "patch_embed.proj", "classifier": "head"}},
                  f, indent=1)


def photographs(folder, count):
    """PNG files and model inputs [1,3,224,224]. astronaut: NASA, public domain; coffee, chelsea: CC0
    (scikit-image); china, flower: CC BY (scikit-learn)."""
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
    """One method with options: its line for whence, its function for torch."""

    def __init__(self, method, compute, target=None, draws=None, **options):
        self.method, self.compute, self.target, self.draws = method, compute, target, draws
        self.options = options

    @property
    def title(self):
        parts = [f"{k}={v}" for k, v in self.options.items()]
        if self.target is not None:
            parts.append(f"target={self.target}")
        return " ".join([self.method] + parts)


def cases(full, draws_path):
    import torch
    import vit_reference as ref
    path_steps, tam_steps, count = (50, 20, 10) if full else (8, 6, 3)
    draws = torch.randn(count, 1, 3, 224, 224, generator=torch.Generator().manual_seed(7))
    np.save(draws_path, draws.numpy())
    out = []
    for of in ("probability", "logit", "loss"):
        out.append(Case("gradient", lambda m, x, y, of=of: ref.gradient(m, x, y, of), gradient_of=of))
    out.append(Case("gradient", lambda m, x, y: ref.gradient(m, x, y, "logit"), target=207,
                    gradient_of="logit"))
    out.append(Case("input-x-gradient", lambda m, x, y: ref.input_x_gradient(m, x, y, "logit"),
                    gradient_of="logit"))
    for rule in ("endpoint_mean", "gausslegendre"):
        out.append(Case("integrated-gradients", lambda m, x, y, rule=rule: ref.integrated_gradients(
            m, x, y, "probability", rule, path_steps)[0], rule=rule, steps=path_steps,
            gradient_of="probability"))
    out.append(Case("smoothgrad", lambda m, x, y: ref.smoothgrad(m, x, y, draws.to(x.dtype)),
                    draws=draws_path, n_samples=count, noise_amount=0.1, gradient_of="probability"))
    out.append(Case("attention-last", lambda m, x, y: ref.attention_last(m, x)))
    out.append(Case("attention-grad-cam", lambda m, x, y: ref.attention_grad_cam(m, x, y)))
    for start in (0, 1):
        out.append(Case("rollout", lambda m, x, y, s=start: ref.rollout(m, x, s), start_layer=start))
    for rule, start, of, target in (("paper", 0, "logit", None), ("paper", 0, "logit", 207),
                                    ("paper", 1, "probability", None),
                                    ("interpretdl", 3, "probability", None)):
        out.append(Case("generic-attention", lambda m, x, y, r=rule, s=start, o=of: ref.generic_attention(
            m, x, y, o, r, s), target=target, rule=rule, start_layer=start, gradient_of=of))
    for start, of in ((4, "probability"), (0, "logit")):
        out.append(Case("tam", lambda m, x, y, s=start, o=of: ref.tam(m, x, y, o, s, tam_steps),
                        start_layer=start, steps=tam_steps, gradient_of=of))
    return out


def torch_result(cache, key, compute):
    """Torch's answers are kept: a rerun against another build of whence costs only whence's time."""
    path = os.path.join(cache, hashlib.sha256(key.encode()).hexdigest()[:24] + ".npy")
    if not os.path.exists(path):
        np.save(path + ".part.npy", compute().detach().numpy())
        os.replace(path + ".part.npy", path)
    return np.load(path)


def run_whence(args, model_dir, case, inputs, out):
    command = [args.whence, "explain", "-m", model_dir, "--method", case.method, "--device", args.device,
               "--threads", str(args.threads), "--save", "npy,json,logits", "-o", out]
    for name, value in case.options.items():
        command += ["-p", f"{args.rename.get(name, name)}={args.rename.get(str(value), value)}"]
    if case.target is not None:
        command += ["-t", str(case.target)]
    if case.draws is not None:
        command += ["--draws", case.draws]
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
    """(relative L2, largest difference / largest magnitude), infinite where shapes or NaN forbid."""
    want = want[0].astype(np.float64)
    if got is None or got.shape != want.shape or not np.isfinite(got).all():
        return float("inf"), float("inf")
    diff = got.astype(np.float64) - want
    return (float(np.linalg.norm(diff) / np.linalg.norm(want)), float(abs(diff).max() / abs(want).max()))


def describe(model, photos, torch, ref):
    """Shows that the random model is not a degenerate one."""
    for name, _, x in photos:
        out, probs, _ = ref.attention(model, torch.from_numpy(x))
        p = probs[-1]
        entropy = -(p * p.clamp(min=1e-30).log()).sum(-1).mean() / np.log(p.shape[-1])
        top = out.softmax(1).max(1)
        print(f"  {name}: class {top.indices.item()}, probability {top.values.item():.4f}, logits' deviation "
              f"{out.std().item():.2f}, entropy of the last attention {entropy.item():.2f} of uniform")


def check(args):
    import torch
    import vit_reference as ref
    torch.set_num_threads(args.threads)
    os.makedirs(os.path.join(args.work, "torch"), exist_ok=True)
    photos = photographs(os.path.join(args.work, "photographs"), args.images)
    todo = cases(args.full, os.path.join(args.work, "draws.npy"))
    todo = [c for c in todo if not args.only or c.method in args.only]
    rows, seed = [], 11
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
            for name, _, x in photos:
                xt = cast(x)
                key = f"{short} {seed} {args.double} {name} {case.title}"
                logits = torch_result(args.work + "/torch", f"{key.split(name)[0]}{name} logits",
                                      lambda: ref.logits(model, xt))
                y = torch.tensor([case.target if case.target is not None else int(logits.argmax())])
                want = torch_result(args.work + "/torch", key, lambda: case.compute(model, xt, y))
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
    print(f"{len(rows)} comparisons, {failed} over {args.tolerance:g} (relative L2, and largest difference over "
          "largest magnitude)")
    write_json(args.out, {"tolerance": args.tolerance, "rows": rows})
    return 1 if failed else 0


# --- speed ----------------------------------------------------------------------------------------


class Peer:
    """The methods as published code runs them, and as well as torch can.

    Published: weights require gradients and .backward() fills them, every block's attention and its
    gradient are kept, relevance is a full matrix, path steps go one at a time. Best: frozen weights,
    the graph begins at the first attention that is differentiated, vector recursions, steps in chunks.
    """

    def __init__(self, model, x, steps, path_steps, chunk):
        import torch
        self.torch, self.model, self.x = torch, model, x
        self.steps, self.path_steps, self.chunk = steps, path_steps, chunk
        self.maps, self.slopes, self.first, self.leaf = {}, {}, 0, False
        for index, block in enumerate(model.blocks):
            block.attn.attn_drop.register_forward_hook(self._keep(index))

    def _keep(self, index):
        def hook(module, inputs, out):
            if index < self.first:
                self.maps[index] = out.detach()
                return None
            if self.leaf and not out.requires_grad and self.torch.is_grad_enabled():
                out = out.detach().requires_grad_(True)
            self.maps[index] = out
            if not self.leaf and out.requires_grad:
                out.register_hook(lambda g: self.slopes.__setitem__(index, g))
            return out if self.leaf else None
        return hook

    def _mode(self, published, first=0):
        self.leaf, self.first = not published, first
        self.model.requires_grad_(published)
        self.maps.clear()
        self.slopes.clear()

    def _one_hot(self, out, probability):
        value = out.softmax(1) if probability else out
        hot = self.torch.zeros_like(out)
        hot[:, self.label] = 1
        return (value * hot).sum()

    def forward(self, published):
        self._mode(published)
        with self.torch.no_grad():
            self.label = int(self.model(self.x)[0].argmax())

    def generic_attention(self, published):
        torch = self.torch
        self._mode(published)
        out = self.model(self.x)
        self.label = int(out[0].argmax())
        if published:
            self.model.zero_grad()
            self._one_hot(out, False).backward(retain_graph=True)
            r = torch.eye(self.maps[0].shape[-1])
            for l in range(len(self.maps)):
                c = (self.slopes[l] * self.maps[l].detach()).clamp(min=0).mean(1)[0]
                r = r + c @ r
            return r[0, 1:]
        kept = [self.maps[l] for l in range(len(self.maps))]
        grads = torch.autograd.grad(self._one_hot(out, False), kept)
        row = torch.zeros(1, kept[0].shape[-1])
        row[0, 0] = 1
        for a, g in zip(reversed(kept), reversed(grads)):
            row = row + row @ (a.detach() * g).clamp(min=0).mean(1)[0]
        return row[0, 1:]

    def tam(self, published):
        torch, last = self.torch, len(self.model.blocks) - 1
        self._mode(published, 0 if published else last)
        if published:
            out = self.model(self.x)
        else:
            with torch.no_grad():
                out = self.model(self.x)
        self.label = int(out[0].argmax())
        state = self.maps[last].detach().mean(1)[:, :1]
        for l in range(last - 1, 3, -1):
            state = state @ self.maps[l].detach().mean(1) + state
        total, chunk = 0, 1 if published else self.chunk
        for scales in torch.linspace(0, 1, self.steps).split(chunk):
            out = self.model(self.x * scales[:, None, None, None])
            if published:
                self.model.zero_grad()
                self._one_hot(out, True).backward(retain_graph=True)
                total = total + self.slopes[last]
            else:
                grad, = torch.autograd.grad(self._one_hot(out, True), self.maps[last])
                total = total + grad.sum(0, keepdim=True)
        weight = (total / self.steps).clamp(min=0).mean(1)[:, :1]
        return (state * weight)[0, 0, 1:]

    def integrated_gradients(self, published):
        """Published code asks only for the input's gradient, so weights get none there either."""
        torch = self.torch
        self._mode(published, len(self.model.blocks))
        with torch.no_grad():
            self.label = int(self.model(self.x)[0].argmax())
        total, chunk = torch.zeros_like(self.x), 1 if published else self.chunk
        for scales in torch.linspace(0, 1, self.path_steps).split(chunk):
            x = (self.x * scales[:, None, None, None]).requires_grad_(True)
            grad, = torch.autograd.grad(self._one_hot(self.model(x), True), x)
            total = total + grad.sum(0, keepdim=True)
        return self.x * total / self.path_steps


OPERATIONS = {"forward": "forward", "generic-attention": "generic_attention", "tam": "tam",
              "integrated-gradients": "integrated_gradients"}


def run_bench(args, name):
    command = [args.bench, "--json"] + [a.replace("{name}", name) for a in args.bench_args]
    environment = {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", "LD_LIBRARY_PATH")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout[done.stdout.index("{"):])


def torch_product_gflops(torch):
    a, best = torch.randn(1536, 1536), 1e9
    for _ in range(5):
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    return 2 * 1536 ** 3 / best / 1e9


def spread(values):
    return [float(v) for v in np.percentile(values, [10, 50, 90])]


def round_of_whence(args, names, samples, about):
    """With {name} among the bench arguments one run per operation, otherwise one run for all."""
    for name in names if any("{name}" in a for a in args.bench_args) else names[:1]:
        said = run_bench(args, name)
        about["peaks"].append(said["fma_gflops"])
        for row in said["results"]:
            if row["name"] in samples:
                samples[row["name"]]["whence"] += row.get("samples_ms", [row["median_ms"]])
                about["gflop"][row["name"]] = row.get("gflop")


def speed(args):
    import torch
    torch.set_num_threads(args.threads)
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(3))
    peer = Peer(random_model(MODELS["vit"], 11), x, args.tam_steps, args.path_steps, args.chunk)
    names = [n for n in OPERATIONS if not args.only or n in args.only]
    samples = {n: {"published": [], "best": [], "whence": []} for n in names}
    about = {"peaks": [], "gflop": {}}
    agreement = {}
    for name in names[1:] if not args.skip_agreement else []:
        a, b = (getattr(peer, OPERATIONS[name])(p) for p in (True, False))
        agreement[name] = ((a - b).abs().max() / a.abs().max()).item()
        assert agreement[name] < 1e-4, (name, agreement[name])
    for _ in range(args.rounds):
        if args.bench:
            round_of_whence(args, names, samples, about)
        for name in names:
            for kind in ("published", "best"):
                start = time.perf_counter()
                getattr(peer, OPERATIONS[name])(kind == "published")
                samples[name][kind].append(1e3 * (time.perf_counter() - start))
    report(args, torch, names, samples, about, agreement)
    return 0


def report(args, torch, names, samples, about, agreement):
    peak = args.peak_gflops or (float(np.median(about["peaks"])) if about["peaks"] else None)
    product = torch_product_gflops(torch)
    print(f"ViT-B/16 224, batch 1, {args.threads} threads, {args.rounds} rounds, tam {args.tam_steps} steps, "
          f"integrated gradients {args.path_steps}; torch {torch.__version__}, its 1536-cubed product "
          f"{product:.0f} GFLOP/s, whence's peak {peak or float('nan'):.0f}")
    print("milliseconds: median (p10-p90)")
    rows = []
    for name in names:
        row = {"name": name, "gflop": about["gflop"].get(name)}
        line = f"{name:21s}"
        for kind in ("published", "best", "whence"):
            if samples[name][kind]:
                low, middle, high = row[kind + "_ms"] = spread(samples[name][kind])
                line += f"  {kind} {middle:.1f} ({low:.1f}-{high:.1f})"
        if "whence_ms" in row:
            row["ratio_published"] = row["published_ms"][1] / row["whence_ms"][1]
            row["ratio_best"] = row["best_ms"][1] / row["whence_ms"][1]
            line += f"  x{row['ratio_published']:.2f} / x{row['ratio_best']:.2f}"
            if row["gflop"] and peak:
                row["peak_fraction"] = row["gflop"] / row["whence_ms"][1] * 1e3 / peak
                line += f"  {100 * row['peak_fraction']:.0f}% of peak"
        rows.append(row)
        print(line)
    write_json(args.out, {"threads": args.threads, "rounds": args.rounds, "torch": torch.__version__,
                          "torch_product_gflops": product, "peak_gflops": peak, "rows": rows,
                          "published_against_best": agreement, "samples_ms": samples})


# --------------------------------------------------------------------------------------------------


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
                   LD_LIBRARY_PATH=":".join(sorted(folders)), OPENBLAS_NUM_THREADS=str(args.threads))
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
    c.add_argument("--full", action="store_true", help="published step counts (50, 20) instead of 8 and 6")
    c.add_argument("--double", action="store_true", help="torch in float64")
    c.add_argument("--device", default="cpu")
    c.add_argument("--tolerance", type=float, default=1e-4)
    c.add_argument("--rename", nargs="*", default=[], metavar="OURS=THEIRS",
                   help="option names or values that the binary spells otherwise")
    s = commands.add_parser("speed", help="time whence and torch in turn")
    s.add_argument("--bench", "--whence", help="program whose --json prints fma_gflops and results")
    s.add_argument("--bench-args", type=shlex.split, default=[],
                   help="its further arguments in one string; {name} makes it run once per operation")
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
    sys.exit({"check": check, "speed": speed}[args.command](args))


if __name__ == "__main__":
    main()
