#!/usr/bin/env python3
"""Do two builds of whence write the same bytes?

    tests/same_bits.py OLD NEW [--devices cpu simt] [--models NAME ...]

OLD and NEW are whence programs. Both explain the same pictures with every method and a list of option variants, on
the bundled models and on the tiny golden ones, and everything they leave behind is compared: pictures and arrays byte for byte, the
records of results.jsonl field by field but for times and versions, what the terminal shows but for both. The
emulated device runs the tiny models only. Exits 0 when all is equal, and says how much was compared.
"""
import argparse
import filecmp
import json
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
SCENES = sorted((ROOT / "weights" / "demo-vit" / "scenes").glob("*.png"))[:2] or sorted((GOLDEN / "images").glob("*.jpg"))[:2]
PHOTOS = sorted((GOLDEN / "images").glob("*.jpg"))[:3]

# model, its extra options, pictures, whether the emulated device runs it
MODELS = [
    ("vit_tiny", GOLDEN / "vit_tiny", [], PHOTOS, True),
    ("vit_tiny_hf", GOLDEN / "vit_tiny_hf", [], PHOTOS, False),
    ("vit_tiny_resized", GOLDEN / "vit_tiny", ["--image-size", "18"], PHOTOS, False),
    ("vit_distilled", GOLDEN / "vit_distilled", [], PHOTOS, True),
    ("vit_distilled_hf", GOLDEN / "vit_distilled_hf", [], PHOTOS, False),
    ("vit_mean", GOLDEN / "vit_mean", [], PHOTOS, True),
    ("vit_mean_no_token", GOLDEN / "vit_mean_no_token", [], PHOTOS, False),
    ("vit_registers", GOLDEN / "vit_registers", [], PHOTOS, True),
    ("resnet", GOLDEN / "cnn_resnet_hub", ["--image-size", "33"], PHOTOS, True),
    ("demo-vit", "demo-vit", [], SCENES, False),
    ("demo-resnet", "demo-resnet", [], SCENES, False),
]

# Methods that need a class token, which these models do not have.
WITHOUT_TOKEN = {"vit_mean", "vit_mean_no_token"}
NEED_TOKEN = {"attention-grad-cam", "tam"}

# Options of all jobs: few steps, since the number of steps is no path of its own.
FEW = {"integrated-gradients": ["steps=5"], "smoothgrad": ["n_samples=4"], "tam": ["steps=3"],
       "deeplift-shap": ["num_random_trials=3"]}
VARIANTS = [
    ("gradient", ["abs=true", "gradient_of=probability"]),
    ("gradient", ["gradient_of=loss"]),
    ("integrated-gradients", ["steps=4", "rule=gausslegendre", "gradient_of=logit"]),
    ("integrated-gradients", ["steps=3", "baselines=random", "num_random_trials=2"]),
    ("integrated-gradients", ["steps=3", "multiply_by_inputs=false", "rule=trapezoid"]),
    ("smoothgrad", ["n_samples=3", "noise_amount=0.3", "gradient_of=probability"]),
    ("deeplift", ["gradient_of=probability"]),
    ("deeplift", ["multiply_by_inputs=false"]),
    ("grad-cam", ["reduce=mean", "relu=false"]),
    ("grad-cam", ["reduce=none"]),
    ("score-cam", ["softmax_over_channels=true", "subtract_baseline=true"]),
    ("guided-grad-cam", ["interpolate_mode=bilinear"]),
    ("lrp", ["reduce=none", "seed=one-hot"]),
    ("lrp", ["rules=captum"]),
    ("lrp", ["rules=epsilon-plus-flat", "seed=probability"]),
    ("lrp", ["rules=epsilon-alpha2-beta1"]),
    ("lrp", ["rules=epsilon-gamma-box"]),
    ("lrp", ["rules=cp-lrp"]),
    ("lrp", ["rules=chefer-stable"]),
    ("transformer-attribution", ["rules=chefer-classic", "start_layer=1"]),
    ("full-lrp", ["rules=attn-lrp"]),
    ("partial-lrp", ["rules=chefer-stable"]),
    ("rollout", ["start_layer=1"]),
    ("attention-grad-cam", ["normalise=false"]),
    ("generic-attention", ["rule=paper", "start_layer=0"]),
    ("generic-attention", ["start_layer=0", "gradient_of=logit"]),
    ("tam", ["steps=3", "with_integral=false"]),
    ("tam", ["steps=3", "last_state_only=true", "start_layer=0"]),
]
TARGETS = ["-t", "predicted", "-t", "1", "-t", "2-0"]
SKIPPED_FIELDS = {"milliseconds", "ms", "time", "seconds", "version", "date", "whence"}


def methods_of(program):
    lines = subprocess.run([program, "methods", "--json"], capture_output=True, text=True, check=True).stdout
    return [json.loads(line) for line in lines.splitlines()]


def without_times(value):
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in SKIPPED_FIELDS}
    if isinstance(value, list):
        return [without_times(v) for v in value]
    return value


def records(path):
    if not path.exists():
        return []
    return [without_times(json.loads(line)) for line in path.read_text().splitlines()]


def jobs(methods, model, members):
    """Yields (name, arguments): one job with all methods, then one for each variant."""
    ids = [m["id"] for m in methods
           if m["models"] == "any" or (m["models"] == "transformers") == ("vit" in model)]
    if model in WITHOUT_TOKEN:
        ids = [i for i in ids if i not in NEED_TOKEN]
    plain = [m for m in ids if m not in FEW and m not in ("consensus", "deeplift-shap")]
    yield "all", [a for m in plain for a in ("--method", m)]
    for method, options in FEW.items():
        if method in ids and method != "deeplift-shap":
            yield method, ["--method", method] + [a for o in options for a in ("-p", o)]
    five = [m for m in ("gradient", "input-x-gradient", "integrated-gradients", "smoothgrad", "grad-cam") if m in ids]
    yield "five", [a for m in five for a in ("--method", m)] + ["-p", "steps=5", "-p", "n_samples=4"]
    for i, (method, options) in enumerate(VARIANTS):
        if method in ids:
            yield f"{method}.{i}", ["--method", method] + [a for o in options for a in ("-p", o)]
    if members:
        yield "consensus", ["--method", "consensus", "-p", f"models={members}", "-p", "method=gradient"]


def run(program, arguments, out):
    command = [str(program), "explain", *map(str, arguments), "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    text = (done.stdout + done.stderr).replace(str(out), "OUT")
    return done.returncode, text


def differences(old, new, where):
    names = sorted({p.name for folder in (old, new) if folder.exists() for p in folder.iterdir()})
    found = []
    for name in names:
        a, b = old / name, new / name
        if not a.exists() or not b.exists():
            found.append(f"{where}: {name} is only {'new' if b.exists() else 'old'}")
        elif name == "results.jsonl":
            ra, rb = records(a), records(b)
            if ra != rb:
                at = next((i for i, (x, y) in enumerate(zip(ra, rb)) if x != y), min(len(ra), len(rb)))
                pair = [json.dumps(r[at])[:300] if at < len(r) else "nothing" for r in (ra, rb)]
                found.append(f"{where}: record {at} differs:\n    old {pair[0]}\n    new {pair[1]}")
        elif not filecmp.cmp(a, b, shallow=False):
            found.append(f"{where}: {name} differs")
    return found, len(names)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=pathlib.Path)
    parser.add_argument("new", type=pathlib.Path)
    parser.add_argument("--devices", nargs="+", default=["cpu", "simt"])
    parser.add_argument("--models", nargs="+", help="only these")
    args = parser.parse_args()
    methods = methods_of(args.old)
    wrong, files, runs = [], 0, 0
    with tempfile.TemporaryDirectory() as scratch:
        for device in args.devices:
            for name, path, options, pictures, tiny in MODELS:
                if (args.models and name not in args.models) or (device == "simt" and not tiny):
                    continue
                members = {"demo-vit": "demo-resnet", "vit_tiny": GOLDEN / "vit_tiny_hf"}.get(name)
                if device == "simt":
                    pictures, members = pictures[:2], None
                for job, arguments in jobs(methods, name, members):
                    where = f"{device} {name} {job}"
                    common = ["-m", path, *options, *arguments, *TARGETS, "--save", "png,npy,json,logits", "--device",
                              device, *pictures]
                    folders = [pathlib.Path(scratch) / f"{runs}.{which}" for which in ("old", "new")]
                    ends = [run(p, common, f) for p, f in zip((args.old, args.new), folders)]
                    found, count = differences(*folders, where)
                    codes, texts = zip(*ends)
                    if codes[0] != codes[1]:
                        found.append(f"{where}: exit codes {codes[0]} and {codes[1]}: {texts[1][-300:]}")
                    elif texts[0] != texts[1]:
                        found.append(f"{where}: the terminal shows\n    old {texts[0][:400]}\n    new {texts[1][:400]}")
                    if codes[0] not in (0, 1):
                        found.append(f"{where}: exit code {codes[0]}: {texts[0][-300:]}") if job == "all" else None
                    for line in found:
                        print(line, flush=True)
                    wrong += found
                    files += count
                    runs += 1
                print(f"{device} {name}: {runs} jobs, {files} files so far, {len(wrong)} differences", flush=True)
    print(f"{runs} jobs, {files} files compared, {len(wrong)} differences")
    return 1 if wrong or not files else 0


if __name__ == "__main__":
    sys.exit(main())
