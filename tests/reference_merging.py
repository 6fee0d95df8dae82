"""Slow, literal twins of the later merging and pruning methods, one image at a time, written from their papers."""

import math

import torch


def cosine(a, b):
    return float(a.double() @ b.double() / (a.double().norm() * b.double().norm()))


def groups_of(x, root):
    """(n, c) tokens and the root of each: mean of every group in the order of the roots, and the group of each."""
    roots = [i for i, other in enumerate(root) if other == i]
    members = {i: [j for j, other in enumerate(root) if other == i] for i in roots}
    small = torch.stack([x[members[i]].mean(0) for i in roots])
    return small, torch.tensor([roots.index(other) for other in root]), [len(members[i]) for i in roots]


def pitome(x, keys, keep, margin):
    """(n, c) tokens, (n, d) keys: energies, ordered split, every second of the 2r most energetic joins its best."""
    n = len(x)
    r = min(n - math.ceil(keep * n), n // 2)
    energies = []
    for i in range(n):
        excess = [cosine(keys[i], keys[j]) - margin for j in range(n)]
        energies.append(sum(e if e > 0 else math.exp(e) - 1 for e in excess) / n)
    order = sorted(range(n), key=lambda i: -energies[i])[: 2 * r]
    root = list(range(n))
    for source in order[::2]:
        root[source] = max(order[1::2], key=lambda other: cosine(keys[source], keys[other]))
    return groups_of(x, root)
