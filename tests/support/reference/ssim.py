"""SSIM (Wang et al. 2004), for images of one channel: lists of rows of floats."""

from statistics import mean, variance

SIDE = 7


def ssim(x, y):
    """The mean over windows of 7x7 pixels; L is the range of y's values."""
    values = [value for row in y for value in row]
    c1, c2 = ((factor * (max(values) - min(values))) ** 2 for factor in (0.01, 0.03))
    found = []
    for top in range(len(x) - SIDE + 1):
        for left in range(len(x[0]) - SIDE + 1):
            a, b = ([value for row in image[top : top + SIDE] for value in row[left : left + SIDE]] for image in (x, y))
            mu_a, mu_b = mean(a), mean(b)
            covariance = sum((p - mu_a) * (q - mu_b) for p, q in zip(a, b)) / (SIDE**2 - 1)
            luminance = (2 * mu_a * mu_b + c1) / (mu_a**2 + mu_b**2 + c1)
            found.append(luminance * (2 * covariance + c2) / (variance(a) + variance(b) + c2))
    return mean(found)
