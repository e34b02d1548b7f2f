"""Attribution methods on a timm vision transformer, in plain PyTorch.

Written from the formulas of the papers and kept slow and literal: every attention matrix is kept,
every step of a path is its own pass, every product is the full matrix product.
tests/golden/make_vit.py turns the results into files for the unit tests, bench/peer_vit.py
compares full-size models with them.

Shapes: x [B,C,H,W], labels [B], attention probabilities and their gradients [B,heads,S,S] with
rows = queries, maps [B,grid_h,grid_w], per-pixel results [B,C,H,W].
"""
import numpy as np
import torch

TARGETS = ("probability", "logit", "loss")


def unfuse_attention(model):
    """Probabilities exist as a tensor only in timm's unfused attention."""
    for block in model.blocks:
        block.attn.fused_attn = False
    return model.eval()


def target_value(logits, labels, of):
    """The differentiated value of each sample, [B]."""
    if of == "logit":
        return logits.gather(1, labels[:, None])[:, 0]
    log_p = logits.log_softmax(1).gather(1, labels[:, None])[:, 0]
    return {"probability": log_p.exp(), "loss": -log_p}[of]


@torch.no_grad()
def logits(model, x):
    return model(x)


def predicted(model, x):
    return logits(model, x).argmax(1)


# --- gradients of the image -----------------------------------------------------------------------


def gradient(model, x, labels, of="probability"):
    x = x.detach().clone().requires_grad_(True)
    return torch.autograd.grad(target_value(model(x), labels, of).sum(), x)[0]


def input_x_gradient(model, x, labels, of="probability"):
    return x * gradient(model, x, labels, of)


def quadrature(rule, n):
    """Positions and weights on [0,1]. riemann_trapezoid divides by n and not n-1, as Captum does,
    so its weights sum to (n-1)/n; trapezoid is the textbook rule; endpoint_mean (InterpretDL) is
    the mean over both ends and everything between."""
    k = np.arange(n, dtype=np.float64)
    if rule == "gausslegendre":
        xi, omega = np.polynomial.legendre.leggauss(n)
        return (1 + xi) / 2, omega / 2
    if rule in ("endpoint_mean", "trapezoid", "riemann_trapezoid"):
        weights = np.full(n, 1 / (n - 1) if rule == "trapezoid" else 1 / n)
        if rule != "endpoint_mean":
            weights[[0, -1]] /= 2
        return np.linspace(0, 1, n), weights
    shift = {"riemann_left": 0, "riemann_right": 1, "riemann_middle": 0.5}[rule]
    return (k + shift) / n, np.full(n, 1 / n)


def integrated_gradients(model, x, labels, of="probability", rule="endpoint_mean", steps=50,
                         baselines=None):
    """(result, gap): result = mean over baselines b of (x-b) * sum_k w_k grad(a_k x + (1-a_k) b);
    gap [B] = sum of the result - mean over baselines (f(x) - f(b)). baselines [T,B,C,H,W]; none:
    zeros."""
    if baselines is None:
        baselines = torch.zeros_like(x)[None]
    positions, weights = quadrature(rule, steps)
    result, rise = torch.zeros_like(x), 0
    for b in baselines:
        total = torch.zeros_like(x)
        for a, w in zip(positions, weights):
            total = total + w * gradient(model, a * x + (1 - a) * b, labels, of)
        result = result + (x - b) * total / len(baselines)
        with torch.no_grad():
            rise = rise + (target_value(model(x), labels, of)
                           - target_value(model(b), labels, of)) / len(baselines)
    return result, result.flatten(1).sum(1) - rise


def smoothgrad(model, x, labels, draws, of="probability", noise_amount=0.1):
    """Mean gradient under noise of deviation noise_amount * (max - min of the sample); draws are
    standard normal, [n,B,C,H,W]."""
    flat = x.flatten(1)
    sigma = noise_amount * (flat.max(1).values - flat.min(1).values)
    total = torch.zeros_like(x)
    for z in draws:
        total = total + gradient(model, x + sigma[:, None, None, None] * z, labels, of)
    return total / len(draws)


# --- attention ------------------------------------------------------------------------------------


class Readout:
    """Which rows of the last block's tokens the classifier reads, and where the patches are.

    rows: token indices, equally weighted: the class token; class and distillation token; or every
    patch token of a mean-pooled model. first: index of the first patch token; grid: (grid_h,
    grid_w).
    """

    def __init__(self, model):
        self.first = model.num_prefix_tokens
        self.grid = tuple(model.patch_embed.grid_size)
        patches = self.grid[0] * self.grid[1]
        if hasattr(model, "dist_token"):
            self.rows = [0, 1]
        elif model.global_pool == "token":
            self.rows = [0]
        else:
            self.rows = list(range(self.first, self.first + patches))

    def of_rows(self, matrix):
        """[B,...,S,S] -> the read rows, patch columns, [B,...,rows,G]."""
        return matrix[..., self.rows, self.first:]

    def as_map(self, per_patch):
        return per_patch.reshape(per_patch.shape[0], *self.grid)

    def mean_map(self, matrix):
        """[B,S,S] -> [B,grid_h,grid_w], the mean over the read rows."""
        return self.as_map(self.of_rows(matrix).mean(-2))


def attention(model, x, labels=None, of="probability"):
    """(logits, [A_l], [G_l]) with G_l = d target / d A_l; without labels the gradients are None."""
    kept = []
    hooks = [block.attn.attn_drop.register_forward_hook(lambda m, i, out: kept.append(out))
             for block in model.blocks]
    try:
        if labels is None:
            with torch.no_grad():
                return model(x), kept, None
        # The input requires a gradient so that the chain exists even with frozen weights.
        out = model(x.detach().clone().requires_grad_(True))
        grads = torch.autograd.grad(target_value(out, labels, of).sum(), kept)
    finally:
        for hook in hooks:
            hook.remove()
    return out.detach(), [a.detach() for a in kept], list(grads)


def attention_last(model, x):
    """The last block's head-averaged attention of the read rows."""
    _, probs, _ = attention(model, x)
    return Readout(model).mean_map(probs[-1].mean(1))


def attention_grad_cam(model, x, labels, of="logit", normalise=True):
    """Last block; per head the mean gradient over patch columns weighs the attention row; mean over
    heads (and read rows), negative part cut. normalise: to [0,1] per sample, a constant map to
    0."""
    readout = Readout(model)
    _, probs, grads = attention(model, x, labels, of)
    rows, slopes = readout.of_rows(probs[-1]), readout.of_rows(grads[-1])
    cam = (rows * slopes.mean(-1, keepdim=True)).mean(1).mean(1).clamp(min=0)
    if normalise:
        low, high = cam.amin(1, keepdim=True), cam.amax(1, keepdim=True)
        cam = torch.where(high > low, (cam - low) / (high - low), torch.zeros_like(cam))
    return readout.as_map(cam)


def rollout(model, x, start_layer=0):
    """B_l = mean_h A_l + I, rows divided by their sum; B_{L-1} ... B_start."""
    _, probs, _ = attention(model, x)
    eye = torch.eye(probs[0].shape[-1], dtype=x.dtype)
    joint = None
    for a in probs[start_layer:]:
        b = a.mean(1) + eye
        b = b / b.sum(-1, keepdim=True)
        joint = b if joint is None else b @ joint
    return Readout(model).mean_map(joint)


def generic_attention(model, x, labels, of="probability", rule="paper", start_layer=0):
    """R <- R + C_l R from R = I. paper: C = mean_h relu(A*G); interpretdl: C = relu(mean_h A *
    mean_h G)."""
    _, probs, grads = attention(model, x, labels, of)
    size = probs[0].shape[-1]
    r = torch.eye(size, dtype=x.dtype).expand(x.shape[0], size, size)
    for a, g in list(zip(probs, grads))[start_layer:]:
        c = (a * g).clamp(min=0).mean(1)
        if rule == "interpretdl":
            c = (a.mean(1) * g.mean(1)).clamp(min=0)
        r = r + c @ r
    return Readout(model).mean_map(r)


def tam(model, x, labels, of="probability", start_layer=4, steps=20, integral=True,
        last_state_only=False):
    """Transition attention maps: state = row of mean_h A_{L-1}; s <- s A_l + s for l = L-2..start;
    times the row of mean_h relu(mean over steps of the last block's gradient at a_k x), a_k =
    linspace(0,1,steps). Without integral: the gradient at x. Several read rows: the mean of the
    rows' products."""
    readout = Readout(model)
    _, probs, _ = attention(model, x)
    state = probs[-1].mean(1)[:, readout.rows]
    if not last_state_only:
        for a in reversed(probs[start_layer:-1]):
            state = state @ a.mean(1) + state
    scales = np.linspace(0, 1, steps) if integral else [1.0]
    total = 0
    for a in scales:
        total = total + attention(model, a * x, labels, of)[2][-1]
    weight = (total / len(scales)).clamp(min=0).mean(1)[:, readout.rows]
    return readout.as_map((state * weight)[..., readout.first:].mean(1))
