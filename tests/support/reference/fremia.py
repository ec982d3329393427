"""The frequency filter of FreMIA (arXiv 2505.20955), by the definition of the discrete Fourier transform."""

from cmath import exp, pi


def _centred(side):
    """The frequencies of an axis as integers around 0."""
    return [k if k < side - side // 2 else k - side for k in range(side)]


def filtered(plane, half_side, factor):
    """A plane, a list of rows, whose frequencies outside -half_side … half_side - 1 of either axis are multiplied by a factor."""
    height, width = len(plane), len(plane[0])
    points = [(y, x) for y in range(height) for x in range(width)]
    result = [[0.0] * width for _ in range(height)]
    for v in _centred(height):
        for u in _centred(width):
            weight = 1.0 if -half_side <= v < half_side and -half_side <= u < half_side else factor
            coefficient = sum(plane[y][x] * exp(-2j * pi * (v * y / height + u * x / width)) for y, x in points)
            for y, x in points:
                wave = exp(2j * pi * (v * y / height + u * x / width)) / (height * width)
                result[y][x] += (weight * coefficient * wave).real
    return result
