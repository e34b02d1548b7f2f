"""Relevance propagation in plain PyTorch, the way its published code does it: every rule is a local
forward pass of the layer at its captured input, followed by autograd through that layer alone.

Written from the formulas of the papers: Bach et al. 2015, Montavon et al. 2017, and for transformers
Chefer, Gur and Wolf 2021. bench/peer_relevance.py compares full-size models with it and times it.

`published`: also the branch of the alpha-beta rule that is multiplied by zero at alpha = 1, as the
public code does; without it only what the result needs.
"""
import torch
import torch.nn.functional as F


def guarded(a, b, e=1e-9):
    """a / (b + e), 0 where b is 0; e = 0: InterpretDL."""
    den = b + e
    den = torch.where(den == 0, torch.full_like(den, e if e else 1), den)
    return a / den * b.ne(0).type(b.type())


def away(a, b, e):
    return a / torch.where(b >= 0, b + e, b - e)


def back(z, x, s):
    return torch.autograd.grad(z, x, s)[0]


def local(x):
    return x.detach().requires_grad_(True)


def proportional(f, inputs, r, divide):
    """x * J(R / y) for each input of f."""
    xs = [local(x) for x in inputs]
    with torch.enable_grad():
        z = f(*xs)
    grads = torch.autograd.grad(z, xs, divide(r, z.detach()))
    return [x.detach() * g for x, g in zip(xs, grads)]


def alpha_beta(f, x, w, b, r, alpha, joint, divide, published):
    """f(x, w, b) is linear in x and in w. b: its sign's part is a contribution (joint only)."""
    def half(w1, w2, bias):
        x1, x2 = local(x.clamp(min=0)), local(x.clamp(max=0))
        with torch.enable_grad():
            z1, z2 = f(x1, w1, bias), f(x2, w2, None)
        s1 = divide(r, (z1 + z2 if joint else z1).detach())
        s2 = divide(r, (z1 + z2 if joint else z2).detach())
        return x1.detach() * back(z1, x1, s1) + x2.detach() * back(z2, x2, s2)
    wp, wn = w.clamp(min=0), w.clamp(max=0)
    active = half(wp, wn, None if b is None else b.clamp(min=0))
    if alpha == 1 and not published:
        return active
    return alpha * active - (alpha - 1) * half(wn, wp, None if b is None else b.clamp(max=0))


def z_box(f, x, w, r, low=None, high=None, divide=lambda a, b: a / (b + 1e-9)):
    """low, high: full-size bounds; without them the extremes of each sample."""
    axes = tuple(range(1, x.dim()))
    low = x.amin(axes, keepdim=True).expand_as(x) if low is None else low
    high = x.amax(axes, keepdim=True).expand_as(x) if high is None else high
    parts = [(local(x), w), (local(low), w.clamp(min=0)), (local(high), w.clamp(max=0))]
    with torch.enable_grad():
        z = [f(a, v, None) for a, v in parts]
    s = divide(r, (z[0] - z[1] - z[2]).detach())
    out = [a.detach() * back(y, a, s) for (a, _), y in zip(parts, z)]
    return out[0] - out[1] - out[2]


# --- convolutional networks (torchvision's resnet and mobilenet_v2) -------------------------------


class Table:
    """What a rule table does at each kind of layer: f, x, w, b, r -> relevance of x."""

    def __init__(self, name, published=False):
        self.name, self.published = name, published
        self.merge = name.startswith("epsilon-")

    def product(self, f, x, w, b, r, first, dense):
        if self.name == "interpretdl":
            divide = lambda a, z: guarded(a, z, 0)
            if first:
                return z_box(f, x, w, r)
            return alpha_beta(f, x, w, None, r, 1, False, divide, self.published)
        divide = lambda a, z: away(a, z, 1e-9 if self.name == "captum" else 1e-6)
        if self.name == "captum" or dense:
            return proportional(lambda x: f(x, w, b), [x], r, divide)[0]
        if first and self.name.endswith("flat"):
            ones = local(torch.ones_like(x))
            with torch.enable_grad():
                z = f(ones, torch.ones_like(w), None)
            return back(z, ones, divide(r, z.detach()))
        alpha = 2 if "alpha2" in self.name else 1
        return alpha_beta(f, x, w, b, r, alpha, True, divide, self.published)

    def norm(self, m, x, r):
        scale = (m.weight / (m.running_var + m.eps) ** 0.5)[None, :, None, None]
        if self.name == "interpretdl":
            return x * scale * (r / (x * scale + 1e-9))
        return x * scale * away(r, m(x), 1e-9)

    def share(self, f, inputs, r):
        e = {"interpretdl": None, "captum": 1e-9}.get(self.name, 1e-6)
        return proportional(f, inputs, r,
                            lambda a, z: guarded(a, z, 0) if e is None else away(a, z, e))

    def max_pool(self, m, x, r):
        if self.name == "interpretdl":
            return self.share(m, [x], r)[0]
        x = local(x)
        with torch.enable_grad():
            y = m(x)
        return back(y, x, r)


def conv_call(m):
    return lambda x, w, b: F.conv2d(x, w, b, m.stride, m.padding, m.dilation, m.groups)


def steps_of(model):
    """The network as a list of steps; a residual block is (\"sum\", main, shortcut)."""
    from torchvision.models import mobilenetv2, resnet

    def flat(module):
        out = []
        for m in module.children():
            if isinstance(m, (resnet.Bottleneck, resnet.BasicBlock)):
                main = [m.conv1, m.bn1, m.relu, m.conv2, m.bn2]
                if isinstance(m, resnet.Bottleneck):
                    main += [m.relu, m.conv3, m.bn3]
                short = list(m.downsample) if m.downsample is not None else []
                out += [("sum", main, short), m.relu]
            elif isinstance(m, mobilenetv2.InvertedResidual):
                inner = flat(m.conv)
                out += [("sum", inner, [])] if m.use_res_connect else inner
            elif list(m.children()):
                out += flat(m)
            elif not isinstance(m, torch.nn.Dropout):
                out.append(m)
        return out

    steps = flat(model)
    dense = next(i for i, m in enumerate(steps) if isinstance(m, torch.nn.Linear))
    if not isinstance(steps[dense - 1], torch.nn.AdaptiveAvgPool2d):
        steps.insert(dense, torch.nn.AdaptiveAvgPool2d(1))
    return steps


def record(steps, x):
    tape = []
    for m in steps:
        if isinstance(m, tuple):
            main, short = record(m[1], x), record(m[2], x)
            tape.append((m, x, main, short))
            x = main[1] + short[1]
        else:
            if isinstance(m, torch.nn.Linear) and x.dim() == 4:
                x = x.flatten(1)
            tape.append((m, x))
            # Layers that work in place must not change what was captured.
            x = F.relu(x) if isinstance(m, torch.nn.ReLU) else F.relu6(x) if isinstance(
                m, torch.nn.ReLU6) else m(x)
    return tape, x


def relprop(tape, r, table, first=None):
    for entry in reversed(tape):
        m, x = entry[0], entry[1]
        if isinstance(m, tuple):
            (main, a), (short, b) = entry[2], entry[3]
            ra, rb = table.share(torch.add, [a, b], r)
            r = relprop(main, ra, table, first) + relprop(short, rb, table, first)
        elif isinstance(m, torch.nn.Linear):
            r = table.product(F.linear, x, m.weight, m.bias, r, False, True)
        elif isinstance(m, torch.nn.Conv2d):
            r = table.product(conv_call(m), x, m.weight, m.bias, r, m is first, False)
        elif isinstance(m, torch.nn.BatchNorm2d):
            r = table.norm(m, x, r)
        elif isinstance(m, torch.nn.AdaptiveAvgPool2d):
            r = table.share(m, [x], r.reshape(*x.shape[:2], 1, 1))[0]
        elif isinstance(m, torch.nn.MaxPool2d):
            r = table.max_pool(m, x, r)
    return r


def merged(model):
    """A copy whose batch norms are part of the convolutions before them."""
    import copy
    from torch.nn.utils.fusion import fuse_conv_bn_eval
    model = copy.deepcopy(model)

    def visit(module):
        names = list(module._modules)
        for before, name in zip(names, names[1:]):
            pair = module._modules[before], module._modules[name]
            if isinstance(pair[0], torch.nn.Conv2d) and isinstance(pair[1], torch.nn.BatchNorm2d):
                module._modules[before] = fuse_conv_bn_eval(*pair)
                module._modules[name] = torch.nn.Identity()
        for child in module.children():
            visit(child)

    visit(model)
    return model


@torch.no_grad()
def lrp(model, x, labels, rules="interpretdl", published=False):
    """Seeded with the logit, summed over channels: [B,H,W]."""
    table = Table(rules, published)
    model = merged(model) if table.merge else model
    tape, y = record(steps_of(model), x)
    first = next(m for m in model.modules() if isinstance(m, torch.nn.Conv2d))
    seed = torch.zeros_like(y).scatter_(1, labels[:, None], y.gather(1, labels[:, None]))
    return relprop(tape, seed, table, first).sum(1)


# --- vision transformers (timm) -------------------------------------------------------------------


def chefer_linear(x, m, r, rules, published):
    return alpha_beta(F.linear, x, m.weight, None, r, 1, rules == "stable", guarded, published)


def chefer_add(a, b, r, rules):
    """In proportion; stable: each part scaled so that they share by mass, for each sample."""
    a, b = proportional(torch.add, [a, b], r, guarded)
    if rules == "classic":
        return a, b
    axes = tuple(range(1, a.dim()))
    sa, sb, whole = (t.sum(axes, keepdim=True) for t in (a, b, r))
    mass = sa.abs() + sb.abs()
    return (a * guarded(guarded(sa.abs(), mass) * whole, sa),
            b * guarded(guarded(sb.abs(), mass) * whole, sb))


def clone(x, parts):
    return x * sum(guarded(p, x) for p in parts)


def heads_of(x, h):
    return x.reshape(x.shape[0], x.shape[1], h, -1).transpose(1, 2)


def merged_heads(x):
    return x.transpose(1, 2).flatten(2)


def record_vit(model, x):
    """Every layer's input, and the probabilities with their graph."""
    with torch.enable_grad():
        p = model.patch_embed(local(x))  # gradients flow whether or not the weights have any
        tokens = torch.cat([model.cls_token.expand(len(x), -1, -1), p], 1)
        h = tokens + model.pos_embed
        blocks = []
        for b in model.blocks:
            c = {"x": h, "ln1": b.norm1(h)}
            qkv = b.attn.qkv(c["ln1"]).chunk(3, -1)
            c["q"], c["k"], c["v"] = (heads_of(t, b.attn.num_heads) for t in qkv)
            c["probs"] = ((c["q"] * b.attn.scale) @ c["k"].transpose(-2, -1)).softmax(-1)
            c["merged"] = merged_heads(c["probs"] @ c["v"])
            c["attn"] = b.attn.proj(c["merged"])
            c["mid"] = h + c["attn"]
            c["ln2"] = b.norm2(c["mid"])
            c["act"] = b.mlp.act(b.mlp.fc1(c["ln2"]))
            c["mlp"] = b.mlp.fc2(c["act"])
            h = c["mid"] + c["mlp"]
            blocks.append(c)
        normed = model.norm(h)
        return tokens, blocks, normed, model.head(normed[:, 0])


def chefer(model, x, labels, rules, published=False, gradients=True):
    """Relevance and gradient of every block's probabilities, [B,H,S,S], and the relevance of what
    the first block reads."""
    tokens, blocks, normed, y = record_vit(model, x)
    seed = F.one_hot(labels, y.shape[1]).to(y.dtype)
    grads = torch.autograd.grad((y * seed).sum(), [c["probs"] for c in blocks]) if gradients else None
    with torch.no_grad():
        r = chefer_linear(normed[:, 0], model.head, seed, rules, published)
        picked = normed[:, 0] * guarded(r, normed[:, 0])
        r = torch.zeros_like(normed)
        r[:, 0] = picked
        cams = []
        for b, c in zip(reversed(model.blocks), reversed(blocks)):
            c = {k: v.detach() for k, v in c.items()}
            r1, r2 = chefer_add(c["mid"], c["mlp"], r, rules)
            r2 = chefer_linear(c["act"], b.mlp.fc2, r2, rules, published)
            r2 = chefer_linear(c["ln2"], b.mlp.fc1, r2, rules, published)
            r = clone(c["mid"], [r1, r2])
            r1, r2 = chefer_add(c["x"], c["attn"], r, rules)
            r2 = chefer_linear(c["merged"], b.attn.proj, r2, rules, published)
            r2 = heads_of(r2, b.attn.num_heads)
            cam, rv = proportional(torch.matmul, [c["probs"], c["v"]], r2, guarded)
            cams.insert(0, cam / 2)
            rq, rk = proportional(lambda q, k: q @ k.transpose(-2, -1), [c["q"], c["k"]], cam / 2,
                                  guarded)
            qkv = torch.cat([merged_heads(t) / 2 for t in (rq, rk, rv)], -1)
            r2 = chefer_linear(c["ln1"], b.attn.qkv, qkv, rules, published)
            r = clone(c["x"], [r1, r2])
    return cams, grads, tokens.detach(), r


def transformer_attribution(model, x, labels, rules="stable", start_layer=0, published=False):
    cams, grads, _, _ = chefer(model, x, labels, rules, published)
    eye = torch.eye(cams[0].shape[-1], dtype=x.dtype)
    roll = None
    for cam, grad in zip(cams[start_layer:], grads[start_layer:]):
        step = (cam * grad).clamp(min=0).mean(1) + eye
        roll = step if roll is None else step @ roll
    side = int((roll.shape[-1] - 1) ** 0.5)
    return roll[:, 0, 1:].reshape(len(x), side, side)


def partial_lrp(model, x, labels, rules="classic"):
    cams, _, _, _ = chefer(model, x, labels, rules, gradients=False)
    row = cams[-1].clamp(min=0).mean(1)[:, 0, 1:]
    side = int(row.shape[-1] ** 0.5)
    return row.reshape(len(x), side, side)


def full_lrp(model, x, labels, rules="classic"):
    _, _, tokens, r = chefer(model, x, labels, rules, gradients=False)
    with torch.no_grad():
        r = chefer_add(tokens, model.pos_embed.expand_as(tokens), r, rules)[0]
        conv = model.patch_embed.proj
        side = x.shape[-1] // conv.stride[0]
        r = r[:, 1:].transpose(1, 2).reshape(len(x), -1, side, side)
        return z_box(conv_call(conv), x, conv.weight, r).sum(1)
