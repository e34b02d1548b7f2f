"""The `speed` command of peer_vit.py: whence and PyTorch in turn on one vision transformer."""
import json
import os
import shlex
import subprocess
import time

import numpy as np


class Peer:
    """The methods as published code runs them, and as well as eager torch can, for any batch, on the
    device and in the number type of x.

    Published: weights require gradients and .backward() fills them, every block's attention and its
    gradient are kept, relevance is a full matrix, path steps go one at a time. Best: frozen
    weights, the graph begins at the first attention that is differentiated, vector recursions,
    steps in chunks. fuse: methods that read no attention use torch's fused one.
    """

    def __init__(self, model, x, steps, path_steps, chunk, draws=5, first_layer=4, fuse=False):
        import torch
        self.torch, self.model, self.x = torch, model, x
        self.steps, self.path_steps, self.chunk = steps, path_steps, chunk
        self.draws, self.first_layer, self.fuse = draws, first_layer, fuse
        self.maps, self.slopes, self.first, self.leaf = {}, {}, 0, False
        self.label = None
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

    def _mode(self, published, first=0, maps=True):
        self.leaf, self.first = not published, first
        self.model.requires_grad_(published)
        for block in self.model.blocks:
            block.attn.fused_attn = self.fuse and not maps
        self.maps.clear()
        self.slopes.clear()

    def _target(self, out, probability):
        """Summed over the rows of out, which are one or several times the batch."""
        value = out.softmax(1) if probability else out
        hot = self.torch.zeros_like(out)
        hot.scatter_(1, self.label.repeat(len(out) // len(self.label))[:, None], 1)
        return (value * hot).sum()

    def _predict(self):
        with self.torch.no_grad():
            out = self.model(self.x)
        self.label = out.argmax(1)
        return out

    def _eye(self, size):
        return self.torch.eye(size, dtype=self.x.dtype, device=self.x.device)

    def _scaled(self, scales):
        """[S] -> [S * B, C, H, W]"""
        return (scales.to(self.x)[:, None, None, None, None] * self.x).flatten(0, 1)

    def _sum_of_steps(self, values, steps):
        return values.reshape(steps, len(self.x), *values.shape[1:]).sum(0)

    def forward(self, published):
        self._mode(published, maps=False)
        return self._predict()

    def rollout(self, published):
        self._mode(published)
        self._predict()
        state = None
        for l in range(len(self.maps)) if published else reversed(range(len(self.maps))):
            a = self.maps[l].mean(1)
            b = a + self._eye(a.shape[-1])
            b = b / b.sum(-1, keepdim=True)
            if published:
                state = b if state is None else b @ state
            else:
                state = b[:, :1] if state is None else state @ b
        return state[:, 0, 1:]

    def generic_attention(self, published):
        torch = self.torch
        self._mode(published)
        out = self.model(self.x)
        self.label = out.argmax(1)
        eye = self._eye(self.maps[0].shape[-1])
        if published:
            self.model.zero_grad()
            self._target(out, False).backward(retain_graph=True)
            r = eye.expand(len(self.x), *eye.shape)
            for l in range(len(self.maps)):
                c = (self.slopes[l] * self.maps[l].detach()).clamp(min=0).mean(1)
                r = r + c @ r
            return r[:, 0, 1:]
        kept = [self.maps[l] for l in range(len(self.maps))]
        grads = torch.autograd.grad(self._target(out, False), kept)
        row = eye[:1]
        for a, g in zip(reversed(kept), reversed(grads)):
            row = row + row @ (a.detach() * g).clamp(min=0).mean(1)
        return row[:, 0, 1:]

    def tam(self, published):
        torch, last = self.torch, len(self.model.blocks) - 1
        self._mode(published, 0 if published else last)
        if published:
            out = self.model(self.x)
        else:
            with torch.no_grad():
                out = self.model(self.x)
        self.label = out.argmax(1)
        state = self.maps[last].detach().mean(1)[:, :1]
        for l in range(last - 1, self.first_layer - 1, -1):
            state = state @ self.maps[l].detach().mean(1) + state
        total, chunk = 0, 1 if published else self.chunk
        for scales in torch.linspace(0, 1, self.steps).split(chunk):
            out = self.model(self._scaled(scales))
            if published:
                self.model.zero_grad()
                self._target(out, True).backward(retain_graph=True)
                total = total + self.slopes[last]
            else:
                grad, = torch.autograd.grad(self._target(out, True), self.maps[last])
                total = total + self._sum_of_steps(grad, len(scales))
        weight = (total / self.steps).clamp(min=0).mean(1)[:, :1]
        return (state * weight)[:, 0, 1:]

    def _input_gradients(self, inputs):
        """Sum over the inputs, each [n * B, C, H, W]. Published code asks only for the input's
        gradient, so weights get none there either."""
        total = 0
        for x in inputs:
            x = x.requires_grad_(True)
            grad, = self.torch.autograd.grad(self._target(self.model(x), True), x)
            total = total + self._sum_of_steps(grad, len(x) // len(self.x))
        return total

    def integrated_gradients(self, published):
        self._mode(published, len(self.model.blocks), maps=False)
        self._predict()
        path = self.torch.linspace(0, 1, self.path_steps).split(1 if published else self.chunk)
        return self.x * self._input_gradients(self._scaled(s) for s in path) / self.path_steps

    def smoothgrad(self, published):
        torch, x = self.torch, self.x
        self._mode(published, len(self.model.blocks), maps=False)
        self._predict()
        flat = x.flatten(1)
        sigma = 0.1 * (flat.amax(1) - flat.amin(1))[None, :, None, None, None]

        def noisy():
            chunk = 1 if published else self.chunk
            for n in [chunk] * (self.draws // chunk) + [self.draws % chunk] * (
                    self.draws % chunk > 0):
                yield (x + sigma * torch.randn(n, *x.shape, dtype=x.dtype,
                                               device=x.device)).flatten(0, 1)
        return self._input_gradients(noisy()) / self.draws

    def transformer_attribution(self, published):
        import lrp_reference as lrp
        self._mode(published)
        self._predict()
        cams, grads, _, _ = lrp.chefer(self.model, self.x, self.label, "stable", published)
        eye = self._eye(cams[0].shape[-1])
        if published:
            roll = None
            for cam, grad in zip(cams, grads):
                step = (cam * grad).clamp(min=0).mean(1) + eye
                roll = step if roll is None else step @ roll
            return roll[:, 0, 1:]
        row = eye[:1]
        for cam, grad in zip(reversed(cams), reversed(grads)):
            row = row + row @ (cam * grad).clamp(min=0).mean(1)
        return row[:, 0, 1:]


OPERATIONS = {"forward": "forward", "generic-attention": "generic_attention", "tam": "tam",
              "integrated-gradients": "integrated_gradients"}


def run_bench(args, name):
    command = [args.bench, "--json"] + [a.replace("{name}", name) for a in args.bench_args]
    environment = {k: v for k, v in os.environ.items()
                   if k not in ("LD_PRELOAD", "LD_LIBRARY_PATH")}  # torch's BLAS is not whence's
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        raise SystemExit(f"{shlex.join(command)}: exit {done.returncode}: "
                         f"{done.stderr.strip()[-300:]}")
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
        about["peaks"].append(said["peak_gflops"])
        for row in said["results"]:
            if row["name"] in samples:
                samples[row["name"]]["whence"] += row.get("samples_ms", [row["median_ms"]])
                about["gflop"][row["name"]] = row.get("gflop")


def speed(args, model):
    """model: a timm ViT with unfused attention. Returns what --out takes."""
    import torch
    torch.set_num_threads(args.threads)
    load = os.getloadavg()
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(3))
    peer = Peer(model, x, args.tam_steps, args.path_steps, args.chunk)
    names = [n for n in OPERATIONS if not args.only or n in args.only]
    samples = {n: {"published": [], "best": [], "whence": []} for n in names}
    about = {"peaks": [], "gflop": {}}
    agreement = {}
    peer.forward(True)
    for name in names if not args.skip_agreement else []:
        if name == "forward":
            continue
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
    return report(args, torch, names, samples, about, agreement, load)


def report(args, torch, names, samples, about, agreement, load):
    peak = args.peak_gflops or (float(np.median(about["peaks"])) if about["peaks"] else None)
    product = torch_product_gflops(torch)
    print(f"ViT-B/16 224, batch 1, {args.threads} threads, {args.rounds} rounds, "
          f"tam {args.tam_steps} steps, integrated gradients {args.path_steps}; "
          f"torch {torch.__version__}, its 1536-cubed product {product:.0f} GFLOP/s, "
          f"whence's peak {peak or float('nan'):.0f}, load {load[0]:.1f} before, "
          f"{os.getloadavg()[0]:.1f} after")
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
    return {"threads": args.threads, "rounds": args.rounds, "torch": torch.__version__,
            "torch_product_gflops": product, "peak_gflops": peak, "rows": rows,
            "published_against_best": agreement, "samples_ms": samples,
            "load_before": load[0], "load_after": os.getloadavg()[0]}
