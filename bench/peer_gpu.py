"""whence and PyTorch in turn on one GPU: ViT-B/16 and ResNet-50, random weights.

    peer_gpu.py --bench MODEL_BENCH --out RESULTS.json [--device cuda] [--batches 1 32 128]
                [--methods ...] [--kinds ...] [--rounds 30] [--seconds 10] [--smoke]

Kinds of peer: eager-f32 (torch's default flags: products in f32, cuDNN's convolutions in tf32),
eager-tf32, eager-bf16: the methods as published code runs them, for a whole batch; compiled-bf16:
frozen weights, torch.compile, channels last for convolutions, path steps folded into large passes;
graphs-bf16: that as CUDA graphs.
whence runs in the precision of the kind, in a process of its own that waits while torch works.

One round of a row is one call of whence and one of each kind of that precision, by the host's clock
from the call to its end. A row takes --rounds rounds, but no more begin after --seconds for each of
the sides once three are done. The first calls (compilation among them) are not counted. A peer that
runs out of memory is recorded as such. Results are written after every row. Needs torch >= 2.4; the
ResNet rows torchvision. --device cpu --smoke tries everything at tiny sizes; --skip-whence, torch
alone.
"""
import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(HERE, "..", "tests", "golden"))

TAM_STEPS, PATH_STEPS, DRAWS = 20, 50, 5  # as model_bench has them
METHODS = ["forward", "rollout", "generic-attention", "tam", "integrated-gradients", "smoothgrad",
           "transformer-attribution", "resnet50-forward", "resnet50-integrated-gradients",
           "resnet50-lrp"]
RELEVANCE = ("transformer-attribution", "resnet50-lrp")  # which whence computes in f32 only
KINDS = ["eager-f32", "eager-tf32", "eager-bf16", "compiled-bf16", "graphs-bf16"]
COMPILED = ("compiled-bf16", "graphs-bf16")


class Whence:
    """model_bench --serve: a row's name in, milliseconds of one call out."""

    def __init__(self, args, precision, batch):
        command = [args.bench, "--serve", "--device", args.device, "--batch", str(batch),
                   "--precision", precision]
        self.process = subprocess.Popen(command + ["--smoke"] * args.smoke, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE)

    def call(self, method):
        try:
            self.process.stdin.write(method + "\n")
            self.process.stdin.flush()
            return float(self.process.stdout.readline())
        except (BrokenPipeError, ValueError):
            said = self.process.stderr.read().strip().splitlines()
            raise RuntimeError(said[-1] if said else "model_bench ended") from None

    def close(self):
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        self.process.wait()


class EagerResNet:
    """Published code: steps one at a time, gradients of the input alone; both branches of the
    alpha-beta rule."""

    def __init__(self, model, x):
        self.model, self.x = model, x

    def forward(self, published):
        import torch
        with torch.no_grad():
            return self.model(self.x)

    def integrated_gradients(self, published):
        import torch
        label = self.forward(published).argmax(1)[:, None]
        total = 0
        for scale in torch.linspace(0, 1, PATH_STEPS).tolist():
            x = (scale * self.x).requires_grad_(True)
            value = self.model(x).softmax(1).gather(1, label).sum()
            total = total + torch.autograd.grad(value, x)[0]
        return self.x * total / PATH_STEPS

    def lrp(self, published):
        import lrp_reference
        return lrp_reference.lrp(self.model, self.x, self.forward(published).argmax(1),
                                 "interpretdl", published)


class Sides:
    """torch's models for one batch, made when a row wants them, one kind and network at a time."""

    def __init__(self, args, batch):
        import torch
        self.args, self.torch = args, torch
        side = 32 if args.smoke else 224
        g = torch.Generator().manual_seed(3)
        self.x = torch.randn(batch, 3, side, side, generator=g)
        self.made = {}

    def get(self, kind, network):
        import peer_gpu_models as models
        from peer_vit_speed import Peer
        torch = self.torch
        if (kind, network) in self.made:
            return self.made[kind, network]
        dtype = torch.bfloat16 if kind.endswith("bf16") else torch.float32
        x = self.x.to(self.args.torch_device, dtype)
        few = torch.randn(4, *self.x.shape[1:], generator=torch.Generator().manual_seed(5))
        model = (models.random_vit(self.args.smoke) if network == "vit"
                 else models.random_resnet50(self.args.smoke, few))
        if model is None:
            raise RuntimeError("torchvision is missing")
        model = model.to(self.args.torch_device, dtype)
        if kind in COMPILED:
            torch._dynamo.reset()
            side = models.Compiled(model, x, TAM_STEPS, PATH_STEPS, DRAWS,
                                   channels_last=network != "vit", graphs=kind == "graphs-bf16")
        elif network == "vit":
            side = Peer(model, x, TAM_STEPS, PATH_STEPS, 1, DRAWS, fuse=True)
        else:
            side = EagerResNet(model.requires_grad_(False), x)
        self.made[kind, network] = side
        return side

    def call(self, kind, method):
        """Milliseconds and the result of one call."""
        torch = self.torch
        network = "resnet50" if method.startswith("resnet50-") else "vit"
        # products of f32: rounded to tf32 where asked for; convolutions follow torch's default
        torch.set_float32_matmul_precision("high" if kind == "eager-tf32" else "highest")
        function = getattr(self.get(kind, network),
                           method.replace("resnet50-", "").replace("-", "_"))
        self.wait()
        start = time.perf_counter()
        out = function() if kind in COMPILED else function(True)
        self.wait()
        return 1e3 * (time.perf_counter() - start), out.detach()

    def wait(self):
        if self.args.torch_device != "cpu":
            self.torch.cuda.synchronize()

    def free(self):
        self.made.clear()
        gc.collect()
        if self.args.torch_device != "cpu":
            self.torch.cuda.empty_cache()


def summary(ms):
    tenths = statistics.quantiles(ms, n=10, method="inclusive") if len(ms) > 1 else ms * 9
    return {"median_ms": statistics.median(ms), "p10_ms": tenths[0], "p90_ms": tenths[8],
            "rounds": len(ms)}


def said(error):
    """One line of what went wrong."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
    return "out of memory" if "out of memory" in text.lower() else text


class Servers:
    """Whence by precision, started when a row wants it."""

    def __init__(self, args, batch):
        self.args, self.batch, self.running = args, batch, {}

    def get(self, precision):
        if precision not in self.running:
            self.running[precision] = Whence(self.args, precision, self.batch)
        return self.running[precision]

    def close(self, precision):
        server = self.running.pop(precision, None)
        if server:
            server.close()


class Row:
    """One method, batch and precision: whence and every kind of that precision."""

    def __init__(self, args, servers, sides, method, precision, kinds):
        self.args, self.sides, self.method = args, sides, method
        self.precision = "f32" if method in RELEVANCE or args.device == "cpu" else precision
        whence = None if args.skip_whence else servers.get(self.precision)
        self.whence = whence
        self.times = {kind: [] for kind in (["whence"] if whence else []) + kinds}
        self.errors, self.results = {}, {}

    def once(self, side):
        if side == "whence":
            return self.whence.call(self.method)
        ms, out = self.sides.call(side, self.method)
        self.results.setdefault(side, out.float().cpu())
        return ms

    def attempt(self, side, count):
        if side in self.errors:
            return
        try:
            ms = self.once(side)
            if count:
                self.times[side].append(ms)
        except Exception as error:  # a peer that cannot is a result too
            self.errors[side] = said(error)
        if side in self.errors:
            self.sides.free()  # not above, where the error still holds what it was about

    def measure(self):
        for side in self.times:
            for _ in range(2):
                self.attempt(side, False)
        begin = time.monotonic()
        for done in range(self.args.rounds):
            if done >= 3 and time.monotonic() - begin > self.args.seconds * len(self.times):
                break
            for side in self.times:
                self.attempt(side, True)
        return self

    def rows(self, batch, exact):
        """One result for each kind of peer. exact: the result of eager-f32, if it is known."""
        ours = self.side("whence")
        for kind in self.times:
            if kind == "whence":
                continue
            row = {"method": self.method, "batch": batch, "kind": kind, "torch": self.side(kind),
                   "whence": ours, "whence_precision": self.precision}
            if "median_ms" in row["torch"] and "median_ms" in (ours or {}):
                row["times_faster"] = row["torch"]["median_ms"] / ours["median_ms"]
            if exact is not None and kind in self.results and self.method != "smoothgrad":
                off = (self.results[kind] - exact).norm() / exact.norm()
                row["relative_l2_to_eager_f32"] = float(off) if off == off else None
            yield row

    def side(self, name):
        if name in self.errors:
            return {"error": self.errors[name]}
        return summary(self.times[name]) if self.times.get(name) else None


def about(args):
    import torch
    out = {"torch": torch.__version__, "device": args.device, "smoke": args.smoke,
           "tam_steps": TAM_STEPS, "path_steps": PATH_STEPS, "draws": DRAWS, "rows": []}
    if args.torch_device != "cpu":
        out["gpu"] = torch.cuda.get_device_name()
        out["cudnn"] = torch.backends.cudnn.version()
        out["allow_tf32_of_convolutions"] = torch.backends.cudnn.allow_tf32
    return out


def write(path, value):
    if path:
        with open(path + ".part", "w") as f:
            json.dump(value, f, indent=1)
            f.write("\n")
        os.replace(path + ".part", path)


def text(side):
    if not side:
        return "-"
    if "error" in side:
        return side["error"]
    return f"{side['median_ms']:.2f} ({side['p10_ms']:.2f}-{side['p90_ms']:.2f})"


def run_group(args, batch, precision, kinds, exact, out):
    """All methods with the kinds of one precision."""
    sides, servers = Sides(args, batch), Servers(args, batch)
    for method in args.methods:
        row = Row(args, servers, sides, method, precision, kinds).measure()
        if "eager-f32" in row.results:
            exact[method] = row.results["eager-f32"]
        for result in row.rows(batch, exact.get(method)):
            out["rows"].append(result)
            factor = result.get("times_faster")
            print(f"{method:30s} batch {batch:<4d} {result['kind']:14s} {text(result['torch'])}  "
                  f"whence {text(result['whence'])}" + (f"  x{factor:.2f}" if factor else ""),
                  flush=True)
        write(args.out, out)
        sides.free()
        if "whence" in row.errors:
            servers.close(row.precision)
    for precision in list(servers.running):
        servers.close(precision)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", type=os.path.abspath, help="the program model_bench")
    parser.add_argument("--out", type=os.path.abspath)
    parser.add_argument("--device", default="cuda",
                        help="of whence, and torch's where that begins with cuda (else the CPU)")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32, 128])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--smoke", action="store_true", help="tiny models")
    parser.add_argument("--skip-whence", action="store_true")
    args = parser.parse_args()
    if not args.bench and not args.skip_whence:
        parser.error("--bench is needed, or --skip-whence")
    args.torch_device = args.device if args.device.startswith("cuda") else "cpu"
    out = about(args)
    for batch in args.batches:
        exact = {}
        for precision in ("f32", "tf32", "bf16"):
            kinds = [k for k in args.kinds if k.endswith("-" + precision)]
            if kinds:
                run_group(args, batch, precision, kinds, exact, out)
    write(args.out, out)


if __name__ == "__main__":
    main()
