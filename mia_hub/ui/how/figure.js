// The figure of the tab "How it works", drawn from the component's value: members, held-out points that can be clicked, and further
// held-out points that only count. how_math.js stands before this.

const { members, shown, others } = JSON.parse(props.value);
const SIDE = 400;
const ARROWS = 15;
const SHADES = 72;
const REACH = 0.98;
const SVG = "http://www.w3.org/2000/svg";
const find = (name) => element.querySelector(`.mia-how-${name}`);
const [stage, handle, slider] = ["stage", "x", "t"].map(find);
const state = { x: members[0], t: Number(slider.value) };

const across = (x) => ((x + 1) / 2) * SIDE;
const down = (y) => ((1 - y) / 2) * SIDE;
const place = ([x, y]) => [across(x), down(y)];
const number = (value, digits = 2) => value.toFixed(digits).replace("-", "−");
// From 0 to 1 as the score rises from -∞ to 0, so that all scores fit on one line.
const height = (score) => 1 / (1 - score);

function draw(parent, tag, attributes) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  parent.append(node);
  return node;
}

// An arrow from one place to another in the image's units, as a path.
function arrow([x, y], [toX, toY], head) {
  const length = Math.hypot(toX - x, toY - y);
  if (length < 0.5) return "";
  const [u, v] = [(toX - x) / length, (toY - y) / length], size = Math.min(head, length * 0.6);
  const barb = (side) => `M${toX - size * (u + 0.5 * side * v)} ${toY - size * (v - 0.5 * side * u)}L${toX} ${toY}`;
  return `M${x} ${y}L${toX} ${toY}${barb(1)}${barb(-1)}`;
}

// What stays, and what follows t and x.

const map = find("map");
const field = draw(map, "path", { class: "mia-how-field" });
shown.forEach((point) => draw(map, "circle", { class: "mia-how-held-out", cx: across(point[0]), cy: down(point[1]), r: 5 }));
members.forEach((point) => draw(map, "circle", { class: "mia-how-member", cx: across(point[0]), cy: down(point[1]), r: 5 }));
const [toMean, meanMark, pull] = ["to-mean", "mean", "pull"].map((name) => draw(map, "path", { class: `mia-how-${name}` }));

const strip = find("strip");
const LANES = { member: [20, 0], "held-out": [52, 26] };
const dots = [["held-out", others], ["member", members]].flatMap(([kind, points]) =>
  points.map((point, i) => {
    // Spread by the golden ratio, so that equal scores can be told apart.
    const [middle, spread] = LANES[kind];
    const cy = middle + spread * (((i * 0.618034) % 1) - 0.5);
    return { kind, point, mark: draw(strip, "circle", { class: `mia-how-${kind}`, cy, r: kind === "member" ? 4.5 : 2.6 }) };
  }),
);
const here = draw(strip, "path", { class: "mia-how-here" });

function showTimestep() {
  const { t } = state;
  const cell = SIDE / ARROWS;
  const arrows = [];
  for (let row = 0; row < ARROWS; row++) {
    for (let column = 0; column < ARROWS; column++) {
      const from = [(column + 0.5) * cell, (row + 0.5) * cell];
      const noise = epsilon([(2 * from[0]) / SIDE - 1, 1 - (2 * from[1]) / SIDE], members, t);
      const length = Math.hypot(...noise);
      // Long noise would cover its neighbours.
      const scale = (0.85 * cell) / (length + 0.6);
      arrows.push(arrow(from, [from[0] - scale * noise[0], from[1] + scale * noise[1]], 5));
    }
  }
  field.setAttribute("d", arrows.join(""));

  const canvas = find("shade"), context = canvas.getContext("2d");
  canvas.width = canvas.height = SHADES;
  const image = context.createImageData(SHADES, SHADES);
  for (let i = 0; i < SHADES * SHADES; i++) {
    const point = [(2 * ((i % SHADES) + 0.5)) / SHADES - 1, 1 - (2 * (Math.floor(i / SHADES) + 0.5)) / SHADES];
    image.data.set([230, 110, 10, 165 * height(simaScore(point, members, t)) ** 1.6], 4 * i);
  }
  context.putImageData(image, 0, 0);

  for (const dot of dots) {
    dot.score = simaScore(dot.point, members, t);
    dot.mark.setAttribute("cx", 8 + 344 * height(dot.score));
  }
  const scores = (kind) => dots.filter((dot) => dot.kind === kind).map((dot) => dot.score);
  const [own, other] = [scores("member"), scores("held-out")];
  const above = own.reduce((sum, a) => sum + other.reduce((wins, b) => wins + (a > b) + (a === b) / 2, 0), 0) / (own.length * other.length);
  find("auc").textContent = `At this t, a training point scores above a held-out one in ${Math.round(100 * above)} of 100 pairs; guessing gives 50.`;
  element.dataset.auc = above;
  find("t-shown").textContent = `t = ${t}`;
  slider.setAttribute("aria-valuetext", `t = ${t}, noise ${number(noiseAt(t))}`);
}

function showPoint() {
  const { x, t } = state;
  const [mean, noise, score] = [localMean(x, members, t), epsilon(x, members, t), simaScore(x, members, t)];
  const from = place(x), [meanX, meanY] = place(mean);
  // The way to √ᾱ·m is that of -ε, and √(1-ᾱ) times as long.
  const end = place(mean.map((part) => part * signalAt(t)));
  pull.setAttribute("d", arrow(from, end, 9));
  toMean.setAttribute("d", `M${from}L${[meanX, meanY]}`);
  meanMark.setAttribute("d", `M${meanX} ${meanY - 8}l8 8l-8 8l-8 -8z`);
  handle.style.left = `${(100 * from[0]) / SIDE}%`;
  handle.style.top = `${(100 * from[1]) / SIDE}%`;
  const at = 8 + 344 * height(score);
  here.setAttribute("d", `M${at} 4V72m-5 6l5 -6l5 6z`);

  // As in every verdict of mia_hub: p = (1 + held-out scores as high)/(n + 1), and evidence from p ≤ 0.01.
  const same = (point) => point[0] === x[0] && point[1] === x[1];
  const high = others.filter((point, i) => dots[i].score >= score).length, p = (1 + high) / (others.length + 1);
  const evidence = p <= 0.01;
  find("kind").textContent = members.some(same) ? "x is a training point." : shown.some(same) ? "x is a held-out point." : "x is some other point.";
  find("verdict").textContent = evidence ? "Evidence." : "Cannot tell.";
  find("verdict").classList.toggle("mia-how-evidence", evidence);
  find("why").textContent = `${high} of ${others.length} held-out points ${high === 1 ? "scores" : "score"} as high: p\u00a0=\u00a0${number(p, 3)}.`;
  find("score").textContent = number(score, 3);
  handle.setAttribute("aria-valuenow", x[0].toFixed(3));
  handle.setAttribute("aria-valuetext", `${number(x[0])} across, ${number(x[1])} up; score ${number(score)}`);
  Object.assign(element.dataset, { x: JSON.stringify(x), t, mean: JSON.stringify(mean), epsilon: JSON.stringify(noise), score, p });
}

function move(x) {
  state.x = x.map((part) => Math.min(Math.max(part, -REACH), REACH));
  showPoint();
}

function change(t) {
  state.t = t;
  slider.value = t;
  showTimestep();
  showPoint();
}

// Mouse and pen drag anywhere; a finger drags x itself, and elsewhere scrolls the page or taps.

function pointed(event, nearest = 0) {
  const box = stage.getBoundingClientRect();
  const at = [(2 * (event.clientX - box.left)) / box.width - 1, 1 - (2 * (event.clientY - box.top)) / box.height];
  const distance = ([x, y]) => Math.hypot(x - at[0], y - at[1]);
  return [...members, ...shown].find((point) => distance(point) < nearest) ?? at;
}

const SNAP = 0.04;
const STILL = 10;
let tapped = null;
stage.addEventListener("pointerdown", (event) => {
  tapped = event.pointerType === "touch" && !handle.contains(event.target) ? [event.clientX, event.clientY] : null;
  if (event.button || tapped) return;
  event.preventDefault();
  handle.focus({ preventScroll: true });
  stage.setPointerCapture(event.pointerId);
  if (!handle.contains(event.target)) move(pointed(event, SNAP));
});
stage.addEventListener("pointermove", (event) => {
  if (stage.hasPointerCapture(event.pointerId)) move(pointed(event));
});
// Where the finger scrolls, there is a pointercancel instead. (Not `click`: after a drag, browsers may leave it out.)
stage.addEventListener("pointerup", (event) => {
  if (tapped && Math.hypot(event.clientX - tapped[0], event.clientY - tapped[1]) < STILL) move(pointed(event, 2 * SNAP));
  tapped = null;
});
handle.addEventListener("keydown", (event) => {
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  const step = steps[event.key];
  if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  move(state.x.map((part, axis) => part + (event.shiftKey ? 0.1 : 0.02) * step[axis]));
});
slider.addEventListener("input", () => change(Number(slider.value)));

// Places worth a look; a second press goes on to the next of its kind.

const near = (point) => members.filter((member) => Math.hypot(member[0] - point[0], member[1] - point[1]) < 0.15).length;
const [EARLY, LATE] = [Number(slider.value), 700];
const places = {
  member: [members.filter((point) => near(point) === 1), EARLY],
  "held-out": [shown.filter((point) => near(point) === 0), EARLY],
  crowd: [shown.filter((point) => near(point) > 2), EARLY],
  late: [members.filter((point) => near(point) === 1), LATE],
};
element.querySelectorAll("[data-place]").forEach((button) => {
  const [points, t] = places[button.dataset.place];
  let next = 0;
  button.addEventListener("click", () => {
    change(t);
    move(points[next++ % points.length]);
  });
});

state.x = places.member[0][0];
change(EARLY);
