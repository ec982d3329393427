// The exact denoiser of a few points in the plane: mia_hub/models/exact.py and mia_hub/attacks/sima.py, in the browser.

// ᾱ_t of the linear schedule of Ho et al. (2020).
function alphasCumprod(timesteps = 1000, first = 1e-4, last = 0.02) {
  let product = 1;
  return Array.from({ length: timesteps }, (_, t) => (product *= 1 - (first + ((last - first) * t) / (timesteps - 1))));
}

const ALPHAS = alphasCumprod();
const signalAt = (t) => Math.sqrt(ALPHAS[t]);
const noiseAt = (t) => Math.sqrt(1 - ALPHAS[t]);

// E[x0 | x_t = x] = Σ w_i·x_i with w = softmax(-‖x - √ᾱ_t·x_i‖²/(2(1-ᾱ_t))): the mean of the samples, weighted by nearness.
function localMean(x, samples, t) {
  const signal = signalAt(t), variance = noiseAt(t) ** 2;
  const logs = samples.map((s) => -((x[0] - signal * s[0]) ** 2 + (x[1] - signal * s[1]) ** 2) / (2 * variance));
  const largest = Math.max(...logs);
  const weights = logs.map((log) => Math.exp(log - largest));
  const sum = weights.reduce((a, b) => a + b);
  return [0, 1].map((axis) => samples.reduce((mean, s, i) => mean + (weights[i] / sum) * s[axis], 0));
}

// ε(x, t) = (x - √ᾱ_t·E[x0 | x])/√(1-ᾱ_t).
function epsilon(x, samples, t) {
  const mean = localMean(x, samples, t), signal = signalAt(t), noise = noiseAt(t);
  return [0, 1].map((axis) => (x[axis] - signal * mean[axis]) / noise);
}

// SimA: -‖ε(x, t)‖₄ at the clean x. Higher = more likely a member.
function simaScore(x, samples, t) {
  const [a, b] = epsilon(x, samples, t);
  return -((a ** 4 + b ** 4) ** 0.25);
}
