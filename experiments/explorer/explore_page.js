// What the sliders, buttons and the map do. `compile` and `floats` are those of explore.js.
"use strict";

const DATA = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const [height, width, channels] = DATA.image;
const dimensions = DATA.latents.length + DATA.unused.length;
const codes = floats(DATA.codes), prior = floats(DATA.prior), originals = decodeBytes(DATA.originals);
const numExamples = codes.length / dimensions, numDraws = prior.length / dimensions;
// Okabe & Ito 2008, told apart by readers with any color vision; further classes take them again.
const COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"];
const state = {z: new Float32Array(dimensions), example: 0, former: null, draw: 0};

const local = DATA.program && compile(DATA.program);
let asked = 0;
async function decode(z) {
  if (local) return local({shape: [dimensions], data: z}).data;
  const answer = await fetch("decode", {method: "POST", body: JSON.stringify({z: Array.from(z)})});
  if (!answer.ok) throw new Error((await answer.json()).error);
  return Float32Array.from(await answer.json());
}

function paint(canvas, values, scale) {
  canvas.width = width; canvas.height = height;
  canvas.style.width = `${Math.max(width, 160)}px`;
  const image = new ImageData(width, height);
  for (let pixel = 0; pixel < width * height; pixel++) {
    for (let channel = 0; channel < 3; channel++)
      image.data[4 * pixel + channel] = Math.round(scale * values[pixel * channels + (channels === 3 ? channel : 0)]);
    image.data[4 * pixel + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

async function draw() {
  const started = performance.now(), number = ++asked;
  let values;
  try {
    values = await decode(Float32Array.from(state.z));
  } catch (error) {
    $("which").textContent = `not decoded: ${error.message}; is the server still running?`;
    return;
  }
  if (number !== asked) return;  // an older answer
  paint($("decoded"), values, 255);
  document.body.dataset.milliseconds = (performance.now() - started).toFixed(2);
  document.body.dataset.drawn = number;
}

function showSliders() {
  for (const {index} of DATA.latents) {
    $(`z${index}`).value = state.z[index];
    $(`value${index}`).textContent = state.z[index].toFixed(2);
  }
}

function set(z) { state.z = Float32Array.from(z); showSliders(); drawMap(); return draw(); }
const codeOf = (example) => codes.subarray(example * dimensions, (example + 1) * dimensions);

function take(example) {
  state.former = state.example === example ? state.former : state.example;
  state.example = example;
  const size = width * height * channels;
  paint($("original"), originals.subarray(example * size, (example + 1) * size), 1);
  const label = DATA.labels ? `, class ${DATA.labels[example]}` : "";
  $("which").textContent = `test example ${DATA.indices[example]}${label}`;
  $("t").disabled = state.former === null;
  $("t").value = 1;
  const former = state.former === null ? null : DATA.indices[state.former];
  $("between").textContent = former === null ? "" : `from ${former} to ${DATA.indices[example]}`;
  return set(codeOf(example));
}

const axes = () => [+$("across").value, +$("up").value];
function extent(axis) {
  let low = Infinity, high = -Infinity;
  for (let i = axis; i < codes.length; i += dimensions) { low = Math.min(low, codes[i]); high = Math.max(high, codes[i]); }
  const margin = 0.03 * (high - low || 1);
  return [low - margin, high + margin];
}
function toMap(z) {
  const [across, up] = axes(), size = $("map").width;
  return [across, up].map((axis, i) => {
    const [low, high] = extents[axis], share = (z[axis] - low) / (high - low);
    return size * (i ? 1 - share : share);
  });
}
const extents = Array.from({length: dimensions}, (_, axis) => extent(axis));
function drawMap() {
  const context = $("map").getContext("2d"), size = $("map").width;
  context.clearRect(0, 0, size, size);
  const classes = DATA.labels ? [...new Set(DATA.labels)].sort((a, b) => a - b) : [];
  context.font = "11px sans-serif";
  for (let i = 0; i < numExamples; i++) {
    const [x, y] = toMap(codeOf(i));
    if (!classes.length) { context.fillStyle = COLORS[0]; context.fillRect(x - 1.5, y - 1.5, 3, 3); continue; }
    // The class itself is written: no color needs to be told from another.
    context.fillStyle = COLORS[classes.indexOf(DATA.labels[i]) % COLORS.length];
    context.fillText(DATA.labels[i], x - 3, y + 4);
  }
  const [x, y] = toMap(state.z);
  context.strokeStyle = "#000"; context.lineWidth = 2;
  context.beginPath(); context.arc(x, y, 8, 0, 2 * Math.PI); context.stroke();
}

for (const {index, kl, low, high} of DATA.latents) {
  const row = document.createElement("div");
  row.className = "latent";
  row.innerHTML = `<label for="z${index}">z${index + 1}, ${kl === null ? "∞" : kl.toFixed(2)} nats</label>
    <input id="z${index}" type="range" min="${low}" max="${high}" step="any"><output id="value${index}"></output>`;
  row.querySelector("input").addEventListener("input", (event) => {
    state.z[index] = +event.target.value;
    $(`value${index}`).textContent = state.z[index].toFixed(2);
    drawMap(); draw();
  });
  $("latents").append(row);
}
if (DATA.unused.length)
  $("rest").textContent = `Unused: ${DATA.unused.map((index) => `z${index + 1}`).join(", ")}.`;
for (const [id, chosen] of [["across", 0], ["up", Math.min(1, DATA.latents.length - 1)]]) {
  for (const {index} of DATA.latents) $(id).add(new Option(`z${index + 1}`, index));
  $(id).selectedIndex = chosen;
  $(id).addEventListener("change", drawMap);
}
$("map").addEventListener("click", (event) => {
  const box = $("map").getBoundingClientRect(), scale = $("map").width / box.width;
  const place = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  let best = 0, least = Infinity;
  for (let i = 0; i < numExamples; i++) {
    const [x, y] = toMap(codeOf(i)), distance = (x - place[0]) ** 2 + (y - place[1]) ** 2;
    if (distance < least) [best, least] = [i, distance];
  }
  take(best);
});
$("t").addEventListener("input", () => {
  const t = +$("t").value, [from, to] = [codeOf(state.former), codeOf(state.example)];
  set(from.map((value, i) => (1 - t) * value + t * to[i]));
});
$("next").addEventListener("click", () => take((state.example + 1) % numExamples));
$("reset").addEventListener("click", () => take(state.example));
$("prior").addEventListener("click", () => {
  const start = (state.draw++ % numDraws) * dimensions;
  $("original").getContext("2d").clearRect(0, 0, width, height);
  $("which").textContent = "no example: a draw from the prior";
  set(prior.subarray(start, start + dimensions));
});
take(0);
