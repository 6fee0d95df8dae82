"""Slow, literal twins of the operators, written from the specification and independent of the library's code."""

import math

import torch
import torch.nn.functional as F


def first_centres(x, grid, cells):
    """(P, D) tokens: the mean of every cell, whose edges are rounded outwards."""
    (H, W), (h, w) = grid, cells
    image = x.double().reshape(H, W, -1)
    centres = []
    for j in range(h):
        for i in range(w):
            rows = slice(j * H // h, math.ceil((j + 1) * H / h))
            columns = slice(i * W // w, math.ceil((i + 1) * W / w))
            centres.append(image[rows, columns].reshape(-1, x.shape[1]).mean(0))
    return torch.stack(centres)


def spread(x, grid, cells):
    """(P, D) tokens: mean squared distance of a token to the first centre of the cell that it lies in."""
    (H, W), (h, w) = grid, cells
    centres = first_centres(x, grid, cells)
    distances = [
        (token - centres[place // W * h // H * w + place % W * w // W]).square().sum()
        for place, token in enumerate(x.double())
    ]
    return sum(distances) / len(distances)


def cluster(x, grid, cells, iterations, neighbourhood, temperature):
    """(P, D) tokens, loops over tokens and centres, step by step."""
    (H, W), (h, w) = grid, cells
    image = x.double().reshape(H, W, -1)
    centres = first_centres(x, grid, cells)
    radius = neighbourhood // 2
    for _ in range(iterations):
        total = torch.zeros_like(centres)
        mass = torch.zeros(h * w, dtype=torch.double)
        for y in range(H):
            for z in range(W):
                row, column = y * h // H, z * w // W
                near = [
                    j * w + i
                    for j in range(max(row - radius, 0), min(row + radius, h - 1) + 1)
                    for i in range(max(column - radius, 0), min(column + radius, w - 1) + 1)
                ]
                share = (-temperature * (image[y, z] - centres[near]).square().sum(1)).softmax(0)
                mass[near] += share
                total[near] += share[:, None] * image[y, z]
        centres = total / mass[:, None].clamp_min(1e-16)
    return centres


def reconstruct(x, centres, values, top_k, temperature, normalize="l2"):
    """(P, D) tokens, (K, D) centres, (K, E) values, row by row as published: norms are at least 1e-12."""
    rows = []
    for token in x.double():
        weight = (-temperature * (token - centres.double()).square().sum(1)).exp()
        threshold = weight.sort(descending=True).values[top_k - 1]
        weight = torch.where(weight >= threshold, weight, torch.zeros_like(weight))
        norm = weight.square().sum().sqrt() if normalize == "l2" else weight.sum()
        rows.append((weight / norm.clamp_min(1e-12)) @ values.double())
    return torch.stack(rows)


def evit(x, score, keep_rate, fuse):
    """(n, c) tokens and their class attention: kept tokens in order, fused one, and nearest-kept copy index."""
    n = len(x)
    keep = math.ceil(keep_rate * n)
    order = sorted(range(n), key=lambda i: -score[i].item())
    kept, dropped = order[:keep], order[keep:]
    small = [x[i] for i in kept]
    if fuse:
        small.append(sum(x[i] * score[i] for i in dropped))
    source = {token: place for place, token in enumerate(kept)}
    for token in dropped:
        distances = [(x[token] - x[other]).double().square().sum().item() for other in kept]
        source[token] = distances.index(min(distances))
    return torch.stack(small), torch.tensor([source[i] for i in range(n)])


def tome(y, ratio):
    """(N, c) normed sequence with the class token first: merged sequence, in order, and the un-merge index."""
    n = len(y)
    r = min(int(n * ratio), (n - 1) // 2)
    unit = y / y.norm(dim=1, keepdim=True).clamp_min(1e-8)
    sources, targets = list(range(0, n, 2)), list(range(1, n, 2))
    best = {}
    for a in sources:
        scores = [(unit[a] @ unit[b]).item() for b in targets]
        best[a] = (-math.inf, None) if a == 0 else max((s, -k) for k, s in enumerate(scores))
    merged = sorted((a for a in sources if a), key=lambda a: -best[a][0])[:r]
    stays = [a for a in sources if a not in merged]
    members = {b: [b] for b in targets}
    for a in merged:
        members[targets[-best[a][1]]].append(a)
    left = sorted([*stays, *targets])
    small = [y[members.get(i, [i])].mean(0) for i in left]
    place = {i: left.index(i) for i in left} | {m: left.index(b) for b in targets for m in members[b]}
    return torch.stack(small), torch.tensor([place[i] for i in range(n)])


def act(q, k, v, projection, bias):
    """(heads, N, d) scaled queries, keys, values: grouping by packed code, one head at a time."""
    out = torch.empty_like(v)
    for head in range(len(q)):
        cells = torch.floor((q[head] @ projection + bias) / 8).long()
        cells = cells - cells.min(0).values
        codes = []
        for row in cells.tolist():
            code = sum(cell << (2 * place) for place, cell in enumerate(row)) % (1 << 64)
            codes.append(code - (1 << 64) if code >= 1 << 63 else code)
        for code in set(codes):
            members = [i for i, other in enumerate(codes) if other == code]
            centre = q[head, members].mean(0)
            out[head, members] = (centre @ k[head].T).softmax(0) @ v[head]
    return out


def attention(q, k, v):
    """(..., N, d) plain softmax attention."""
    return ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)).softmax(-1) @ v


def nearest_labels(grid, cells):
    """Initial labels as the official code makes them: nearest up-sampling of the index map."""
    index = torch.arange(cells[0] * cells[1], dtype=torch.float32).reshape(1, 1, *cells)
    return F.interpolate(index, size=tuple(grid), mode="nearest").long().flatten()


def regions(x, grid, keep, rounds, spatial):
    """(n, c) tokens: means of the regions in order, the region of every token, and their sizes, pair by pair."""
    x = x.double()
    n, variance = len(x), (x - x.mean(0)).square().mean(0).sum()
    groups = [[token] for token in range(n)]

    def centre(group):
        places = [torch.tensor(divmod(token, grid[1]), dtype=torch.double) for token in group]
        return x[group].mean(0), torch.stack(places).mean(0)

    def cost(one, other):
        (a, p), (b, q) = centre(one), centre(other)
        distance = (a - b).square().sum() / variance + spatial * (p - q).square().sum()
        return (len(one) * len(other) / (len(one) + len(other)) * distance).item()

    number = 0
    while len(groups) > keep:
        k = len(groups)
        r = min(math.ceil((k - keep) / max(rounds - number, 1)), max(k // 2 - 1, 1))
        if number == 0:
            sources = [i for i in range(k) if (i // grid[1] + i % grid[1]) % 2 == 0]
        else:
            sources = [i for i in range(k) if i % 2 == number % 2]
        others = [i for i in range(k) if i not in sources]
        best = {i: min((cost(groups[i], groups[j]), j) for j in others) for i in sources}
        gone = sorted(sources, key=lambda i: best[i])[:r]
        for i in gone:
            groups[best[i][1]] = groups[best[i][1]] + groups[i]
        groups = [group for i, group in enumerate(groups) if i not in gone]
        number += 1
    owner = torch.empty(n, dtype=torch.int64)
    for place, group in enumerate(groups):
        owner[group] = place
    return torch.stack([centre(group)[0] for group in groups]), owner, [len(group) for group in groups]


def mass(index, weight, m):
    """(n, k) what every token reads: what all of them read of each of ``m`` reduced tokens."""
    total = torch.zeros(m, dtype=torch.double)
    for row, weights in zip(index.tolist(), weight.tolist(), strict=True):
        for place, value in zip(row, weights, strict=True):
            total[place] += value
    return total


def smaller(grid, scale):
    """Lattice of an image whose sides are ``scale`` times those of one with lattice ``grid``."""
    return tuple(max(round(scale * side), 1) for side in grid)


def mixed_scale(x, coarse, grid, keep):
    """(n, c) tokens and those of their windows of 2 and of 4: the leaves of a quadtree, grown split by split.

    Returns the reduced tokens, what every token reads as a dense matrix (n, m), the leaf of every token, and sizes.
    """
    height, width = (side // 4 * 4 for side in grid)

    def window(row, column, side):
        return [(y, z) for y in range(row, row + side) for z in range(column, column + side)]

    def error(node):
        tokens = torch.stack([x[y * grid[1] + z].double() for y, z in window(*node)])
        return (tokens - tokens.mean(0)).square().sum().item()

    nodes = [(row, column, 4) for row in range(0, height, 4) for column in range(0, width, 4)]
    nodes += [(y, z, 1) for y in range(grid[0]) for z in range(grid[1]) if y >= height or z >= width]
    while True:
        able = [node for node in nodes if node[2] > 1]
        if not able or abs(len(nodes) + 3 - keep * len(x)) >= abs(len(nodes) - keep * len(x)):
            break
        row, column, side = widest = max(able, key=error)
        half = side // 2
        nodes.remove(widest)
        nodes += [(row + y, column + z, half) for y in (0, half) for z in (0, half)]
    nodes.sort(key=lambda node: (node[2], node[:2]))
    first = {2: 0, 4: height * width // 4}
    small = [
        x[row * grid[1] + column] if side == 1 else coarse[first[side] + row // side * (width // side) + column // side]
        for row, column, side in nodes
    ]
    owner = {place: number for number, node in enumerate(nodes) for place in window(*node)}
    read = torch.zeros(len(x), len(nodes), dtype=torch.double)
    for (y, z), number in owner.items():
        side = nodes[number][2]
        low, high = (max(side // 2 - 1, 0), side // 2)
        axes = []
        for place, length in ((y, height // side), (z, width // side)):
            at = max((place + 0.5) / side - 0.5, 0)
            near, part = int(at), at - int(at)
            axes.append(((near, 1 - part), (min(near + 1, length - 1), part)))
        if side == 1:
            read[y * grid[1] + z, number] = 1
            continue
        for row, above in axes[0]:
            for column, left in axes[1]:
                for place in [(side * row + a, side * column + b) for a in (low, high) for b in (low, high)]:
                    read[y * grid[1] + z, owner[place]] += above * left / 4
    index = torch.tensor([owner[y, z] for y in range(grid[0]) for z in range(grid[1])])
    return torch.stack(small), read, index, [node[2] ** 2 for node in nodes]


def smaller_patches(embed, image, patch, grid):
    """(3, H, W) pixels: patches of the mean pixels of 2 x 2, then of 4 x 4, in whole windows of 4 x 4 tokens."""
    height, width = (side // 4 * 4 * patch for side in grid)
    tokens = []
    for side in (2, 4):
        pixels = image[:, :height, :width].reshape(3, height // side, side, width // side, side).mean((2, 4))
        for row in range(0, height // side, patch):
            for column in range(0, width // side, patch):
                tokens.append(embed(pixels[None, :, row : row + patch, column : column + patch])[0, :, 0, 0])
    return torch.stack(tokens)
