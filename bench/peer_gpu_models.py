"""What peer_gpu.py measures on torch's side: models with random weights, and the methods written as
pure functions for torch.compile.

`VisionTransformer` has the names of timm's, which the other peers and references walk, and needs no
package but torch.
"""
import importlib.util
import os

import torch
import torch.nn.functional as F
from torch import nn


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.num_heads, self.scale = heads, (width // heads) ** -0.5
        self.fused_attn = False
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.attn_drop = nn.Identity()

    def forward(self, x, probe=None):
        """probe [B,H,S,S], zeros added to the probabilities: its gradient is theirs. With a probe
        the result is (output, probabilities)."""
        b, s, w = x.shape
        q, k, v = self.qkv(x).reshape(b, s, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        if self.fused_attn and probe is None:
            return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        probs = self.attn_drop(((q * self.scale) @ k.transpose(-2, -1)).softmax(-1))
        if probe is not None:
            probs = probs + probe
        out = self.proj((probs @ v).transpose(1, 2).flatten(2))
        return out if probe is None else (out, probs)


class Mlp(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, width, heads, hidden):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width, 1e-6), Attention(width, heads)
        self.norm2, self.mlp = nn.LayerNorm(width, 1e-6), Mlp(width, hidden)

    def forward(self, x, probe=None):
        out = self.attn(self.norm1(x), probe)
        x = x + (out if probe is None else out[0])
        x = x + self.mlp(self.norm2(x))
        return x if probe is None else (x, out[1])


class PatchEmbed(nn.Module):
    def __init__(self, image, patch, width):
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)
        self.grid_size = (image // patch, image // patch)

    def forward(self, x):
        return self.proj(x).flatten(2).transpose(1, 2)


class VisionTransformer(nn.Module):
    num_prefix_tokens, global_pool = 1, "token"

    def __init__(self, image=224, patch=16, width=768, depth=12, heads=12, hidden=3072,
                 classes=1000):
        super().__init__()
        self.patch_embed = PatchEmbed(image, patch, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (image // patch) ** 2, width))
        self.blocks = nn.ModuleList(Block(width, heads, hidden) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width, 1e-6), nn.Linear(width, classes)

    def embed(self, x):
        x = self.patch_embed(x)
        return torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed

    def classify(self, x):
        return self.head(self.norm(x)[:, 0])

    def forward(self, x):
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.classify(x)


def random_vit(smoke):
    torch.manual_seed(1)
    sizes = dict(image=32, width=32, depth=6, heads=2, hidden=64, classes=10) if smoke else {}
    model = VisionTransformer(**sizes)
    for name, p in model.named_parameters():  # attention that is not uniform, logits that differ
        if p.dim() > 1:
            fan_in = p.shape[-1] if p.dim() == 3 else p[0].numel()
            nn.init.normal_(p, std=0.3 if p.dim() == 3 else fan_in ** -0.5)
    return model.eval()


def random_resnet50(smoke, inputs):
    """None where there is no torchvision. The statistics of the norms are those of the inputs."""
    try:
        from torchvision.models import resnet
    except ImportError:
        return None
    torch.manual_seed(1)
    model = resnet.ResNet(resnet.Bottleneck, [1, 1, 1, 1] if smoke else [3, 4, 6, 3],
                          num_classes=10 if smoke else 1000)
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.momentum = None
    with torch.no_grad():
        model.train()(inputs)
    return model.eval()


# --- methods as functions of the images alone -----------------------------------------------------


def picked(logits, label, probability):
    """Summed over the rows of logits, which are one or several times those of label."""
    value = logits.softmax(1) if probability else logits
    return value.gather(1, label.repeat(len(logits) // len(label))[:, None]).sum()


def probes(model, x, count):
    heads, tokens = model.blocks[0].attn.num_heads, model.pos_embed.shape[1]
    return [x.new_zeros(len(x), heads, tokens, tokens) for _ in range(count)]


def blocks_with_maps(model, h, given):
    maps = []
    for block, probe in zip(model.blocks[len(model.blocks) - len(given):], given):
        h, a = block(h, probe)
        maps.append(a)
    return h, maps


def forward(model, x):
    return model(x)


@torch.no_grad()
def rollout(model, x):
    _, maps = blocks_with_maps(model, model.embed(x), probes(model, x, len(model.blocks)))
    row = None
    for a in reversed(maps):
        b = a.mean(1) + torch.eye(a.shape[-1], dtype=x.dtype, device=x.device)
        b = b / b.sum(-1, keepdim=True)
        row = b[:, :1] if row is None else row @ b
    return row[:, 0, 1:]


def generic_attention(model, x):
    h = model.embed(x)

    def value(*given):
        out, maps = blocks_with_maps(model, h, given)
        logits = model.classify(out)
        return picked(logits, logits.detach().argmax(1), False), maps

    y, pull, maps = torch.func.vjp(value, *probes(model, x, len(model.blocks)), has_aux=True)
    row = torch.eye(maps[0].shape[-1], dtype=x.dtype, device=x.device)[:1]
    for a, g in zip(reversed(maps), reversed(pull(torch.ones_like(y)))):
        row = row + row @ (a * g).clamp(min=0).mean(1)
    return row[:, 0, 1:]


def last_block_gradient(model, xs, label):
    """Of the probability of label, with respect to the last block's attention: nothing before that
    block is differentiated."""
    h = model.embed(xs)
    for block in model.blocks[:-1]:
        h = block(h)

    def value(given):
        out, _ = blocks_with_maps(model, h, [given])
        return picked(model.classify(out), label, True)

    y, pull = torch.func.vjp(value, *probes(model, xs, 1))
    return pull(torch.ones_like(y))[0]


def input_gradient(model, xs, label):
    y, pull = torch.func.vjp(lambda x: picked(model(x), label, True), xs)
    return pull(torch.ones_like(y))[0]


def states_of_attention(model, x, first_layer=4):
    h, maps = blocks_with_maps(model, model.embed(x), probes(model, x, len(model.blocks)))
    state = maps[-1].mean(1)[:, :1]
    for a in reversed(maps[first_layer:-1]):
        state = state @ a.mean(1) + state
    return model.classify(h).argmax(1), state


def functional_lrp():
    """tests/golden/lrp_reference.py with its local backward passes as torch.func.vjp, which
    torch.compile can follow."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "golden",
                        "lrp_reference.py")
    spec = importlib.util.spec_from_file_location("functional_lrp", path)
    lrp = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lrp)

    def guarded(a, b, e=1e-9):
        den = b + e
        den = torch.where(den == 0, e if e else 1.0, den)
        return torch.where(b == 0, 0.0, a / den)

    def proportional(f, inputs, r, divide):
        z, pull = torch.func.vjp(f, *inputs)
        return [x * g for x, g in zip(inputs, pull(divide(r, z)))]

    def alpha_beta(f, x, w, b, r, alpha, joint, divide, published):
        assert alpha == 1 and not published
        x1, x2 = x.clamp(min=0), x.clamp(max=0)
        bias = None if b is None else b.clamp(min=0)
        z1, pull1 = torch.func.vjp(lambda x: f(x, w.clamp(min=0), bias), x1)
        z2, pull2 = torch.func.vjp(lambda x: f(x, w.clamp(max=0), None), x2)
        s1, s2 = ((divide(r, z1 + z2),) * 2 if joint else (divide(r, z1), divide(r, z2)))
        return x1 * pull1(s1)[0] + x2 * pull2(s2)[0]

    def z_box(f, x, w, r, divide=lambda a, b: a / (b + 1e-9)):
        axes = tuple(range(1, x.dim()))
        parts = [(x, w), (x.amin(axes, keepdim=True).expand_as(x), w.clamp(min=0)),
                 (x.amax(axes, keepdim=True).expand_as(x), w.clamp(max=0))]
        ends = [torch.func.vjp(lambda a, v=v: f(a, v, None), a) for a, v in parts]
        s = divide(r, ends[0][0] - ends[1][0] - ends[2][0])
        out = [a * pull(s)[0] for (a, _), (_, pull) in zip(parts, ends)]
        return out[0] - out[1] - out[2]

    lrp.local = lambda x: x
    lrp.guarded, lrp.proportional = guarded, proportional
    lrp.alpha_beta, lrp.z_box = alpha_beta, z_box
    return lrp


def attention_gradients(model, x):
    """Of the predicted class's logit, with respect to every block's attention; and that class."""
    h = model.embed(x)

    def value(*given):
        out, _ = blocks_with_maps(model, h, given)
        logits = model.classify(out)
        label = logits.detach().argmax(1)
        return picked(logits, label, False), label

    y, pull, label = torch.func.vjp(value, *probes(model, x, len(model.blocks)), has_aux=True)
    return pull(torch.ones_like(y)), label


@torch.no_grad()
def attribution(lrp, model, x):
    grads, label = attention_gradients(model, x)
    cams, _, _, _ = lrp.chefer(model, x, label, "stable", False, gradients=False)
    row = torch.eye(cams[0].shape[-1], dtype=x.dtype, device=x.device)[:1]
    for cam, grad in zip(reversed(cams), reversed(grads)):
        row = row + row @ (cam * grad).clamp(min=0).mean(1)
    return row[:, 0, 1:]


class Compiled:
    """Frozen weights, no attention kept that is not read, steps folded into passes of up to `most`
    images; every pass is one compiled function without breaks. graphs: replayed as CUDA graphs, for
    less work on the host."""

    def __init__(self, model, x, steps, path_steps, draws, most=128, channels_last=False,
                 graphs=False):
        model.requires_grad_(False)
        if channels_last:
            model, x = model.to(memory_format=torch.channels_last), x.contiguous(
                memory_format=torch.channels_last)
        for m in model.modules():
            if isinstance(m, Attention):
                m.fused_attn = True
        self.model, self.x = model, x
        self.steps, self.path_steps, self.draws, self.most = steps, path_steps, draws, most
        self.graphs = graphs
        self._compiled = {}
        self._functions = {f.__name__: f for f in (
            forward, rollout, generic_attention, states_of_attention, last_block_gradient,
            input_gradient)}
        lrp = functional_lrp()
        self._functions["attribution"] = lambda m, x: attribution(lrp, m, x)
        self._functions["relevance"] = lambda m, x, y: lrp.lrp(m, x, y, "interpretdl")

    def _call(self, name, *inputs):
        if name not in self._compiled:
            f, model = self._functions[name], self.model
            self._compiled[name] = torch.compile(
                lambda *args: f(model, *args), dynamic=False, fullgraph=True,
                mode="reduce-overhead" if self.graphs else None)
        if not self.graphs:
            return self._compiled[name](*inputs)
        torch.compiler.cudagraph_mark_step_begin()
        out = self._compiled[name](*inputs)  # its memory belongs to the next call
        return tuple(t.clone() for t in out) if isinstance(out, tuple) else out.clone()

    def _label(self):
        with torch.no_grad():
            return self._call("forward", self.x).argmax(1)

    def _chunks(self, steps):
        """Chunks of one size, so that one function serves them."""
        room = max(1, self.most // len(self.x))
        size = max(n for n in range(1, min(steps, room) + 1) if steps % n == 0)
        return [slice(i, i + size) for i in range(0, steps, size)]

    def _folded(self, name, scales, label):
        total = 0
        for part in self._chunks(len(scales)):
            xs = (scales[part].to(self.x)[:, None, None, None, None] * self.x).flatten(0, 1)
            grad = self._call(name, xs, label)
            total = total + grad.reshape(-1, len(self.x), *grad.shape[1:]).sum(0)
        return total / len(scales)

    def forward(self):
        with torch.no_grad():
            return self._call("forward", self.x)

    def rollout(self):
        return self._call("rollout", self.x)

    def generic_attention(self):
        return self._call("generic_attention", self.x)

    def tam(self):
        with torch.no_grad():
            label, state = self._call("states_of_attention", self.x)
        grad = self._folded("last_block_gradient", torch.linspace(0, 1, self.steps), label)
        return (state * grad.clamp(min=0).mean(1)[:, :1])[:, 0, 1:]

    def integrated_gradients(self):
        return self.x * self._folded("input_gradient", torch.linspace(0, 1, self.path_steps),
                                     self._label())

    def smoothgrad(self):
        label, x, total = self._label(), self.x, 0
        flat = x.flatten(1)
        sigma = 0.1 * (flat.amax(1) - flat.amin(1))[None, :, None, None, None]
        for part in self._chunks(self.draws):
            noise = torch.randn(part.stop - part.start, *x.shape, dtype=x.dtype, device=x.device)
            grad = self._call("input_gradient", (x + sigma * noise).flatten(0, 1), label)
            total = total + grad.reshape(-1, *x.shape).sum(0)
        return total / self.draws

    def transformer_attribution(self):
        return self._call("attribution", self.x)

    def lrp(self):
        return self._call("relevance", self.x, self._label())
