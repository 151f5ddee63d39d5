"""The method once more, slowly: float64 NumPy with loops, one crop at a time.

Written from the text of the paper and of its baseline's description. Points are numbers
row * N + column; sets are Python sets. Nothing here imports the package under test.
"""

import math

import numpy as np


def dice(probs, target):
    """Dice loss with squares below and 1e-3 added to each of the two sums there."""
    overlap = size_probs = size_target = 0.0
    for a, t in zip(np.ravel(probs), np.ravel(target), strict=True):
        overlap += float(a) * float(t)
        size_probs += float(a) ** 2
        size_target += float(t) ** 2
    return 1 - 2 * overlap / ((size_probs + 0.001) + (size_target + 0.001))


def mil(probs, box):
    """Eq. (1)."""
    height, width = probs.shape
    onto_x = lambda m: [max(m[y, x] for y in range(height)) for x in range(width)]
    onto_y = lambda m: [max(m[y, x] for x in range(width)) for y in range(height)]
    return dice(onto_x(probs), onto_x(box)) + dice(onto_y(probs), onto_y(box))


def sinkhorn(similarity, num_rounds):
    """Divides columns by their sums, then rows, again and again."""
    a = np.array(similarity, np.float64)
    for _ in range(num_rounds):
        for column in range(a.shape[1]):
            a[:, column] /= a[:, column].sum()
        for row in range(a.shape[0]):
            a[row] /= a[row].sum()
    return a


def transition(similarity, num_rounds):
    """Eq. (2)."""
    a = sinkhorn(similarity, num_rounds)
    return (a + a.T) / 2


def power(matrix, exponent):
    result = np.eye(len(matrix))
    for _ in range(exponent):
        result = result @ np.asarray(matrix, np.float64)
    return result


def propagation_scores(matrix, members, num_hops):
    """Eq. (3) and Eq. (4); `members` lists the points j, with repetitions."""
    reached = power(matrix, num_hops)
    scores = np.zeros(len(matrix))
    for j in members:
        scores += reached[j] / len(members)
    return scores


def converged(matrix, blend, num_terms=200):
    """Eq. (a2) as its Neumann series (1 - b) sum_k b^k T^k."""
    total, term = np.zeros_like(matrix, np.float64), np.eye(len(matrix))
    for _ in range(num_terms):
        total += term
        term = blend * term @ matrix
    return (1 - blend) * total


def seeds(extreme_points, crop_size, patch_size, delta):
    """The cells of the four points (top, left, bottom, right), moved inward."""
    (xt, yt), (xl, yl), (xb, yb), (xr, yr) = np.asarray(extreme_points, np.float64)
    moved = [(xt, yt + delta), (xl + delta, yl), (xb, yb - delta), (xr - delta, yr)]
    cells = []
    for x, y in moved:
        x = min(max(x, 0), crop_size - 1)
        y = min(max(y, 0), crop_size - 1)
        row, column = math.floor(y / patch_size), math.floor(x / patch_size)
        cells.append(row * (crop_size // patch_size) + column)
    return cells


def initial_points(
    extreme_points,
    has_points,
    box,
    valid_region,
    *,
    crop_size,
    patch_size,
    delta,
    background="outside",
    use_padding=False,
):
    """P_FG as a list with repetitions, P_BG and P_Box as sets."""
    grid = crop_size // patch_size
    fg = seeds(extreme_points, crop_size, patch_size, delta) if has_points else []
    outside, without_padding = set(), set()
    for row in range(grid):
        for column in range(grid):
            x0, y0 = column * patch_size, row * patch_size
            x1, y1 = x0 + patch_size, y0 + patch_size
            if background == "outside":
                apart = x1 <= box[0] or x0 >= box[2] or y1 <= box[1] or y0 >= box[3]
            else:
                x, y = (x0 + x1) / 2, (y0 + y1) / 2
                apart = not (box[0] < x < box[2] and box[1] < y < box[3])
            if apart:
                outside.add(row * grid + column)
                in_image = (
                    x0 >= valid_region[0]
                    and y0 >= valid_region[1]
                    and x1 <= valid_region[2]
                    and y1 <= valid_region[3]
                )
                if in_image or use_padding:
                    without_padding.add(row * grid + column)
    bg = without_padding or outside
    unlabeled = set(range(grid * grid)) - outside
    return fg, bg - set(fg), unlabeled - set(fg)


def retrieve(
    similarity, fg, bg, unlabeled, *, num_hops, fg_threshold, bg_threshold, num_rounds
):
    """Sec. 3.2.2 up to Eq. (5); thresholds are those of a grid of 1024 points."""
    matrix = transition(similarity, num_rounds)
    scale = 1024 / len(matrix)
    zero = np.zeros(len(matrix))
    from_fg = propagation_scores(matrix, fg, num_hops) if fg else zero
    from_bg = propagation_scores(matrix, sorted(bg), num_hops) if bg else zero
    margin = from_fg - from_bg
    if not fg:
        return set(), set(), margin
    pseudo_fg = {i for i in unlabeled if margin[i] >= fg_threshold * scale}
    pseudo_bg = {i for i in unlabeled if margin[i] <= bg_threshold * scale}
    return pseudo_fg, pseudo_bg, margin


def supervision(fg, bg, pseudo_fg, pseudo_bg, grid):
    """Eq. (6) and Eq. (7)."""
    target, known = np.zeros((grid, grid)), np.zeros((grid, grid))
    for i in set(fg) | pseudo_fg:
        target[i // grid, i % grid] = 1
    for i in set(fg) | pseudo_fg | bg | pseudo_bg:
        known[i // grid, i % grid] = 1
    return target, known


def point_loss(probs, target, known, is_empty, box, mil_weight, pooling="bilinear"):
    """Eq. (8)."""
    grid = len(target)
    if pooling == "bilinear":
        small = bilinear(probs, grid, grid)
    else:
        step = len(probs) // grid
        small = np.zeros((grid, grid))
        for row in range(grid):
            for column in range(grid):
                y, x = row * step, column * step
                small[row, column] = probs[y : y + step, x : x + step].mean()
    loss = dice(small * known, target)
    return loss + mil_weight * mil(probs, box) if is_empty else loss


def mean_field(image, probs, box, num_rounds, zeta=0.1):
    """Probabilities after the last round; the mask is where they exceed 1/2."""
    image, box = np.asarray(image, np.float64), np.asarray(box, np.float64)
    height, width = probs.shape
    x = np.clip(np.asarray(probs, np.float64) * box, 0.1, 0.9)
    for _ in range(num_rounds):
        new = np.empty_like(x)
        for i in range(height):
            for j in range(width):
                evidence = [1.0, 1.0]
                for m in range(max(i - 1, 0), min(i + 2, height)):
                    for n in range(max(j - 1, 0), min(j + 2, width)):
                        distance = ((image[i, j] - image[m, n]) ** 2).sum()
                        kernel = math.exp(-distance / (2 * zeta**2))
                        evidence[1] *= x[m, n] ** kernel
                        evidence[0] *= (1 - x[m, n]) ** kernel
                evidence[1] *= box[i, j]
                new[i, j] = evidence[1] / (1e-6 + evidence[0] + evidence[1])
        x = np.clip(new, 0.1, 0.9)
    return x


def box_mask(box, crop_size, mask_size):
    """The rectangle drawn on the crop by pixel centres, then shrunk bilinearly."""
    full = np.zeros((crop_size, crop_size))
    for y in range(crop_size):
        for x in range(crop_size):
            inside_x = box[0] <= x + 0.5 < box[2]
            full[y, x] = inside_x and box[1] <= y + 0.5 < box[3]
    return bilinear(full, mask_size, mask_size)


def bilinear(x, height, width):
    """Half-pixel centres, edges clamped, no anti-aliasing; [h, w] or [h, w, c]."""
    hat = lambda t: max(0.0, 1 - abs(t))
    return _resize(x, height, width, hat, reach=1)


def bicubic(x, height, width, *, offset=0.0):
    """Like `bilinear` with Keys' kernel, a = -0.75."""

    def kernel(t):
        t, a = abs(t), -0.75
        if t <= 1:
            return (a + 2) * t**3 - (a + 3) * t**2 + 1
        return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0

    return _resize(x, height, width, kernel, reach=2, offset=offset)


def _resize(x, height, width, kernel, *, reach, offset=0.0):
    x = np.asarray(x, np.float64)
    clamp = lambda value, size: min(max(value, 0), size - 1)
    out = np.zeros((height, width, *x.shape[2:]))
    for i in range(height):
        source_y = (i + 0.5) * x.shape[0] / (height + offset) - 0.5
        for j in range(width):
            source_x = (j + 0.5) * x.shape[1] / (width + offset) - 0.5
            for m in range(math.floor(source_y) - reach, math.floor(source_y) + 4):
                for n in range(math.floor(source_x) - reach, math.floor(source_x) + 4):
                    weight = kernel(source_y - m) * kernel(source_x - n)
                    out[i, j] += weight * x[clamp(m, len(x)), clamp(n, x.shape[1])]
    return out


def conv3x3(x, kernel, bias):
    """Padding 1, stride 1; x [h, w, c], kernel [3, 3, c, d]."""
    height, width, _ = x.shape
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    out = np.zeros((height, width, kernel.shape[-1])) + bias
    for i in range(height):
        for j in range(width):
            for m in range(3):
                for n in range(3):
                    out[i, j] += padded[i + m, j + n] @ kernel[m, n]
    return out


def mask_decoder(patches, convs, hidden, output, *, scale, side, upsample_before=4):
    """Supp. A and Eq. (a1), before the sigmoid; layers are (kernel, bias) pairs."""
    patches = np.asarray(patches, np.float64)
    mean = patches.mean(axis=(0, 1))
    prototype = np.maximum(mean @ hidden[0] + hidden[1], 0) @ output[0] + output[1]
    grid = round(len(patches) * scale)
    x = bilinear(patches, grid, grid)
    for number, (kernel, bias) in enumerate(convs, start=1):
        if number == upsample_before:
            x = bilinear(x, 2 * len(x), 2 * len(x))
        x = np.maximum(conv3x3(x, kernel, bias), 0)
    return bilinear(x @ prototype, side, side)


def layer_norm(x, scale, bias):
    mean = x.mean(axis=-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-6) * scale + bias


def gelu(x):
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def attention(query, key, value, gradient):
    """Softmax attention [T, D] of one head, and the gradient of its inputs."""
    scale = query.shape[1] ** -0.5
    scores = scale * query @ key.T
    probs = np.exp(scores - scores.max(axis=1, keepdims=True))
    probs /= probs.sum(axis=1, keepdims=True)
    of_probs = gradient @ value.T
    of_scores = probs * (of_probs - (of_probs * probs).sum(axis=1, keepdims=True))
    inputs = (scale * of_scores @ key, scale * of_scores.T @ query, probs.T @ gradient)
    return probs @ value, probs, inputs


def vit(image, params, *, patch_size, heads, class_token=True):
    """Patch tokens after the final norm, and the head-averaged attention per layer.

    `params` is the nested tree of the encoder in float64; the position table must have
    the grid of the image.
    """
    grid = image.shape[0] // patch_size
    tokens = []
    for row in range(grid):
        for column in range(grid):
            y, x = row * patch_size, column * patch_size
            cell = image[y : y + patch_size, x : x + patch_size]
            kernel = params["patch_embedding"]["kernel"]
            tokens.append(
                np.einsum("yxc,yxcd->d", cell, kernel)
                + params["patch_embedding"]["bias"]
            )
    tokens = np.array(tokens)
    if class_token:
        tokens = np.concatenate([params["class_token"][0], tokens])
    tokens = tokens + params["position_table"]
    dense = lambda x, p: x @ p["kernel"] + p["bias"]
    norm = lambda x, p: layer_norm(x, p["scale"], p["bias"])
    maps = []
    for number in sorted(params["blocks"], key=int):
        block = params["blocks"][number]
        packed = dense(norm(tokens, block["norm_1"]), block["attention"]["qkv"])
        query, key, value = np.split(packed, 3, axis=1)
        size = query.shape[1] // heads
        mixed, mean = np.zeros_like(query), 0.0
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            scores = query[:, part] @ key[:, part].T / math.sqrt(size)
            probs = np.exp(scores - scores.max(axis=1, keepdims=True))
            probs /= probs.sum(axis=1, keepdims=True)
            mixed[:, part] = probs @ value[:, part]
            mean = mean + probs / heads
        maps.append(mean)
        tokens = tokens + dense(mixed, block["attention"]["projection"])
        hidden = gelu(dense(norm(tokens, block["norm_2"]), block["mlp"]["hidden"]))
        tokens = tokens + dense(hidden, block["mlp"]["output"])
    return norm(tokens, params["norm"])[int(class_token) :], maps


def quadrilateral_depth(extreme_points, box, crop_size, grid):
    """Height of each cell's centre over the nearest of the four lines, by areas.

    Positive within top -> right -> bottom -> left. Two points on one place make no
    line; all four there leave 0.
    """
    top, left, bottom, right = np.asarray(extreme_points, np.float64)
    corners = [top, right, bottom, left, top]
    unit = math.sqrt(max((box[2] - box[0]) * (box[3] - box[1]), 1)) / 2
    depth = np.zeros((grid, grid))
    for row in range(grid):
        for column in range(grid):
            x, y = ((at + 0.5) * crop_size / grid for at in (column, row))
            heights = []
            for (ax, ay), (bx, by) in zip(corners, corners[1:], strict=False):
                base = math.hypot(bx - ax, by - ay)
                triangle = ax * (by - y) + bx * (y - ay) + x * (ay - by)  # twice it
                if base > 1e-3:
                    heights.append(triangle / base)
            depth[row, column] = min(heights) / unit if heights else 0
    return depth


def disc(x, y, box, crop_size, grid, radius):
    """Gaussian weights of the cells with their centre in the box, summing to 1."""
    cell = crop_size / grid
    weights = np.zeros(grid * grid)
    for row in range(grid):
        for column in range(grid):
            at_x, at_y = (column + 0.5) * cell, (row + 0.5) * cell
            if box[0] <= at_x <= box[2] and box[1] <= at_y <= box[3]:
                far = ((at_x - x) ** 2 + (at_y - y) ** 2) / (radius * cell) ** 2
                weights[row * grid + column] = math.exp(-far / 2)
    return weights / weights.sum()


def nearest_transitions(similarity, share):
    """The largest entries of each row as they are, a millionth of them elsewhere."""
    similarity = np.asarray(similarity, np.float64)
    kept = np.zeros_like(similarity)
    for row, entries in enumerate(similarity):
        count = max(1, round(share * len(entries)))
        for column in sorted(range(len(entries)), key=lambda i: -entries[i])[:count]:
            kept[row, column] = entries[column]
    return kept + 1e-6 * similarity


def log_ratio(from_fg, from_bg):
    """log pi^(f) / pi^(b) in units of the mean, each with 1e-6 added, within 4."""
    ratios = []
    for f, b in zip(from_fg, from_bg, strict=True):
        ratio = (f * len(from_fg) + 1e-6) / (b * len(from_bg) + 1e-6)
        ratios.append(min(max(math.log(ratio), -4), 4))
    return np.array(ratios)


def ridge(features, probability, inside, outside, *, shrinkage, num_rounds, keep):
    """Weighted least squares with a free offset; the penalty is a row per weight."""
    x = np.asarray(features, np.float64)
    x = x - x.mean(axis=0)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    weights = np.zeros(len(x))
    for i in range(len(x)):
        if inside[i]:
            weights[i] = 1
        elif outside[i]:
            weights[i] = inside.sum() / outside.sum()
    root = np.sqrt(weights)[:, None]
    with_offset = root * np.concatenate([x, np.ones((len(x), 1))], axis=1)
    penalty = math.sqrt(shrinkage) * np.eye(x.shape[1], x.shape[1] + 1)
    system = np.concatenate([with_offset, penalty])
    found = np.where(inside, probability, 0.0)
    for _ in range(num_rounds):
        target = root[:, 0] * np.where(inside, 2 * found - 1, -1)
        wanted = np.concatenate([target, np.zeros(x.shape[1])])
        coefficients = np.linalg.lstsq(system, wanted, rcond=None)[0]
        fit = x @ coefficients[:-1] + coefficients[-1]
        found = keep * probability + (1 - keep) * np.clip((fit + 1) / 2, 0, 1)
        found = np.where(inside, found, 0.0)
    return found


def dense_crf(
    lab,
    probability,
    inside,
    *,
    num_rounds,
    colour_weight,
    position_scale,
    colour_scale,
    smooth_weight,
    smooth_scale,
):
    """Every pair of nodes in turn; a node counts among its own neighbours."""
    side = len(probability)
    nodes = [(row, column) for row in range(side) for column in range(side)]
    near, smooth = (np.zeros((len(nodes), len(nodes))) for _ in range(2))
    for i, (row, column) in enumerate(nodes):
        for j, (m, n) in enumerate(nodes):
            far = ((row - m) ** 2 + (column - n) ** 2) / side**2
            unlike = ((lab[row, column] - lab[m, n]) ** 2).sum() / colour_scale**2
            near[i, j] = math.exp(-(far / position_scale**2 + unlike) / 2)
            smooth[i, j] = math.exp(-far / smooth_scale**2 / 2)
    sums = near.sum(axis=1)
    near = near / np.sqrt(sums[:, None] * sums[None])
    smooth = smooth / smooth.sum(axis=1, keepdims=True)
    sure = np.clip(np.asarray(probability, np.float64).ravel(), 0.02, 0.98)
    log_odds, mask = np.log(sure / (1 - sure)), np.ravel(inside)
    found = sure * mask
    for _ in range(num_rounds):
        belief = 2 * found - 1
        energy = log_odds + colour_weight * near @ belief
        energy = energy + smooth_weight * smooth @ belief
        found = mask / (1 + np.exp(-energy))
    return found.reshape(side, side)
