"""PFAMI (arXiv 2308.12143), for images of one channel: ``image`` is a list of rows of floats in [0, 1]."""

from math import floor, fsum, sqrt


def loss(image, t, eps, alphas_cumprod, e):
    """L_t(x) = Σ (e - ε(x_t, t))² at x_t = √ᾱ_t·x0 + √(1-ᾱ_t)·e, x0 the image's values brought to [-1, 1], row by row."""
    x0 = [2 * value - 1 for row in image for value in row]
    x_t = [sqrt(alphas_cumprod[t]) * x + sqrt(1 - alphas_cumprod[t]) * n for x, n in zip(x0, e)]
    return fsum((n - predicted) ** 2 for n, predicted in zip(e, eps(x_t, t)))


def crop(image, side, whole=round):
    """The middle of the image, enlarged to the image's size: every pixel is mixed from the four crop pixels around its place."""
    rows, columns = len(image), len(image[0])
    height, width = max(1, whole(side * rows)), max(1, whole(side * columns))
    top, left = (rows - height) // 2, (columns - width) // 2
    middle = [row[left : left + width] for row in image[top : top + height]]

    def around(place, length, cropped):
        """The two crop pixels around a pixel, and the share of the second; pixels have their centres at halves."""
        at = min(max((place + 0.5) * cropped / length - 0.5, 0), cropped - 1)
        return floor(at), min(floor(at) + 1, cropped - 1), at - floor(at)

    enlarged = []
    for y in range(rows):
        above, below, down = around(y, rows, height)
        enlarged.append([])
        for x in range(columns):
            before, after, right = around(x, columns, width)
            upper = (1 - right) * middle[above][before] + right * middle[above][after]
            lower = (1 - right) * middle[below][before] + right * middle[below][after]
            enlarged[-1].append((1 - down) * upper + down * lower)
    return enlarged


def pfami(image, timesteps, sides, eps, alphas_cumprod, draws, form="relative", whole=round):
    """The mean over crops x' of the mean over t of (L_t(x) - L_t(x'))/L_t(x), or of L_t(x) - L_t(x'); ``draws[t]`` is e."""
    over_crops = []
    for side in sides:
        over_timesteps = []
        for t in timesteps:
            own = loss(image, t, eps, alphas_cumprod, draws[t])
            fall = own - loss(crop(image, side, whole), t, eps, alphas_cumprod, draws[t])
            over_timesteps.append(fall if form == "difference" else fall / own)
        over_crops.append(fsum(over_timesteps) / len(timesteps))
    return fsum(over_crops) / len(sides)
