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


def tome2d(x, grid, ratio, stride):
    """(n, c) tokens on a lattice: the first of every cell stays, the r others most like one of those join it."""
    height, width = grid
    cells = [y * width + z for y in range(0, height, stride) for z in range(0, width, stride)]
    others = [i for i in range(height * width) if i not in cells]
    best = {i: max(cells, key=lambda cell: cosine(x[i], x[cell])) for i in others}
    others.sort(key=lambda i: -cosine(x[i], x[best[i]]))
    root = list(range(height * width))
    for i in others[: int(height * width * ratio)]:
        root[i] = best[i]
    return groups_of(x, root)


def ailurus(x, grid, keep, neighbours, radius, spatial):
    """(n, c) tokens on a lattice: density peaks as anchors, every other token joins the nearest anchor around it."""
    n, x, width = len(x), x.double(), grid[1]
    variance = (x - x.mean(0)).square().sum(1).mean()

    def distance(i, j):
        places = (i // width - j // width) ** 2 + (i % width - j % width) ** 2
        return float((x[i] - x[j]).square().sum() / variance) + spatial * places

    def close(i, j):
        return i != j and max(abs(i // width - j // width), abs(i % width - j % width)) <= radius

    around = {i: [j for j in range(n) if close(i, j)] for i in range(n)}
    fewest = min(neighbours, *(len(others) for others in around.values()))
    density = [math.exp(-sum(sorted(distance(i, j) for j in around[i])[:fewest]) / fewest) for i in range(n)]
    farthest = max(distance(i, j) for i in range(n) for j in around[i])
    gap = [min((distance(i, j) for j in around[i] if density[j] > density[i]), default=farthest) for i in range(n)]
    anchors = sorted(range(n), key=lambda i: -density[i] * gap[i])[: math.ceil(keep * n)]
    root = list(range(n))
    for i in set(root) - set(anchors):
        root[i] = min([j for j in anchors if close(i, j)] or anchors, key=lambda anchor: distance(i, anchor))
    return groups_of(x, root)


def algm_windows(x, grid, share):
    """(n, c) tokens on a lattice: the 2 x 2 windows of the largest mean cosine of two tokens become one token."""
    height, width = grid
    corners = [y * width + z for y in range(0, height - 1, 2) for z in range(0, width - 1, 2)]
    windows = [[i, i + 1, i + width, i + width + 1] for i in corners]
    likeness = [
        sum(cosine(x[i], x[j]) for place, i in enumerate(window) for j in window[:place]) / 6 for window in windows
    ]
    root = list(range(len(x)))
    for window in sorted(range(len(windows)), key=lambda k: -likeness[k])[: int(share * len(windows))]:
        for i in windows[window]:
            root[i] = windows[window][0]
    return groups_of(x, root)


def algm_global(x, ratio):
    """(n, c) tokens: the r tokens at even places most like one at an odd place join it."""
    n = len(x)
    sources, others = range(0, n, 2), range(1, n, 2)
    best = {i: max(others, key=lambda j: cosine(x[i], x[j])) for i in sources}
    root = list(range(n))
    for i in sorted(sources, key=lambda i: -cosine(x[i], x[best[i]]))[: min(int(n * ratio), n // 2)]:
        root[i] = best[i]
    return groups_of(x, root)


def mpm(x, ratio):
    """(n, c) tokens: the r most similar mutual pairs merge into their first; where they are too few, tokens follow."""
    n = len(x)
    best = [max((j for j in range(n) if j != i), key=lambda j: cosine(x[i], x[j])) for i in range(n)]
    by_likeness = sorted(range(n), key=lambda i: -cosine(x[i], x[best[i]]))
    pairs = [i for i in by_likeness if best[best[i]] == i and best[i] < i]
    followers = [i for i in by_likeness if best[best[i]] != i]
    goes = [*pairs, *followers][: int(ratio * n)]
    root = list(range(n))
    for i in goes:
        while root[i] in goes:
            root[i] = best[root[i]]
    return groups_of(x, root)


def merged_line(line, length):
    """(n, c) tokens in a row: every second one may join a neighbour, the most similar pairs do; places after that."""
    n, choice = len(line), {}
    for i in range(1, n, 2):
        sides = [(cosine(line[i], line[j]), j) for j in (i - 1, i + 1) if j < n]
        choice[i] = max(sides, key=lambda side: side[0])
    goes = sorted(choice, key=lambda i: -choice[i][0])[: n - length]
    root = [choice[i][1] if i in goes else i for i in range(n)]
    roots = [i for i in range(n) if root[i] == i]
    merged = []
    for i in roots:
        members = line[[j for j in range(n) if root[j] == i]]
        merged.append(members.gather(0, members.abs().argmax(0, keepdim=True))[0])
    return torch.stack(merged), [roots.index(j) for j in root]


def cubistmerge(x, grid, cells):
    """(n, c) tokens on a lattice: neighbours of every row merge, then those of every column."""
    rows = [merged_line(row, cells[1]) for row in x.unflatten(0, grid)]
    lattice = torch.stack([row for row, _ in rows])
    columns = [merged_line(lattice[:, column], cells[0]) for column in range(cells[1])]
    small = torch.stack([column for column, _ in columns], 1).flatten(0, 1)
    index = [columns[c][1][y] * cells[1] + c for y, (_, places) in enumerate(rows) for c in places]
    return small, torch.tensor(index), None


def ats(x, score, keep_rate):
    """(n, c) tokens and their significance: those drawn at evenly spaced points, filled up, and the nearest kept."""
    n = len(x)
    keep = math.ceil(keep_rate * n)
    kept = []
    for k in range(keep):
        point, passed = (k + 0.5) / keep * float(score.double().sum()), 0.0
        token = next(i for i in range(n) if point <= (passed := passed + float(score[i])))
        if token not in kept:
            kept.append(token)
    others = sorted((i for i in range(n) if i not in kept), key=lambda i: -score[i].item())
    kept = sorted([*kept, *others[: keep - len(kept)]])
    nearest = [min(kept, key=lambda j: float((x[i] - x[j]).double().square().sum())) for i in range(n)]
    return kept, nearest


def evovit(x, score, keep_rate):
    """(n, c) tokens and their class attention: slow tokens, and the weighted mean of the others."""
    order = sorted(range(len(x)), key=lambda i: -score[i].item())
    keep = math.ceil(keep_rate * len(x))
    slow, fast = order[:keep], order[keep:]
    package = sum(x[i] * score[i] for i in fast) / sum(score[i] for i in fast)
    return slow, fast, package
