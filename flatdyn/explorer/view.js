// The view of an explorer: controls, a plane, and panels that follow. It draws what it is sent, and computes nothing
// but the contour lines of the loss. `mount` takes any carrier of messages: the widget's, or that of a static page.

const MARKS = { minimum: "o", saddle: "x", maximum: "^", degenerate: "d" };
const NUMBERS = [
  ["lr", "learning rate η", true],
  ["rho", "radius ρ", false],
  ["momentum", "momentum μ", false],
  ["scale", "noise s", false],
  ["batch_size", "batch size B", true],
];
const LAYERS = { basins: "basins", field: "field of steps", perturbed: "perturbed points", many: "many starts" };
const PATIENCE = 8000; // ms without an answer after which the kernel is said to be silent

const floats = (part) => new Float32Array(part.buffer.slice(part.byteOffset, part.byteOffset + part.byteLength));
const bytes = (part) => new Uint8Array(part.buffer, part.byteOffset, part.byteLength);

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in made && typeof value !== "string") made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

// --- a canvas with the pixels of the screen -----------------------------------------------------------------

function sheet(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  const style = getComputedStyle(canvas);
  const ink = style.getPropertyValue("--ink").trim() || "#1a1a1a";
  const ground = style.getPropertyValue("--ground").trim() || "#fff";
  pen.font = "11px system-ui, sans-serif";
  return { pen, width, height, ink, ground, faint: style.getPropertyValue("--faint").trim() || "#555" };
}

function mark(pen, kind, x, y, size, fill, edge) {
  pen.beginPath();
  if (kind === "x") {
    pen.moveTo(x - size, y - size); pen.lineTo(x + size, y + size);
    pen.moveTo(x + size, y - size); pen.lineTo(x - size, y + size);
    pen.strokeStyle = edge; pen.lineWidth = 4; pen.stroke();
    pen.strokeStyle = fill; pen.lineWidth = 2; pen.stroke();
    return;
  }
  if (kind === "^") { pen.moveTo(x, y - size); pen.lineTo(x + size, y + size); pen.lineTo(x - size, y + size); }
  else if (kind === "d") { pen.moveTo(x, y - size); pen.lineTo(x + size, y); pen.lineTo(x, y + size); pen.lineTo(x - size, y); }
  else if (kind === "s") pen.rect(x - size, y - size, 2 * size, 2 * size);
  else pen.arc(x, y, size, 0, 7);
  pen.closePath();
  pen.fillStyle = fill; pen.fill();
  pen.strokeStyle = edge; pen.lineWidth = 1.2; pen.stroke();
}

// Line pieces of a level: marching squares over a grid of n × n values, in units of cells
function contour(values, n, level, put) {
  for (let j = 0; j + 1 < n; j++) {
    for (let i = 0; i + 1 < n; i++) {
      const a = values[j * n + i], b = values[j * n + i + 1];
      const c = values[(j + 1) * n + i + 1], d = values[(j + 1) * n + i];
      if (!Number.isFinite(a + b + c + d)) continue;
      const cuts = [];
      if ((a > level) !== (b > level)) cuts.push([i + (level - a) / (b - a), j]);
      if ((b > level) !== (c > level)) cuts.push([i + 1, j + (level - b) / (c - b)]);
      if ((c > level) !== (d > level)) cuts.push([i + (level - d) / (c - d), j + 1]);
      if ((d > level) !== (a > level)) cuts.push([i, j + (level - a) / (d - a)]);
      for (let k = 0; k + 1 < cuts.length; k += 2) put(...cuts[k], ...cuts[k + 1]);
    }
  }
}

const short = (x) => (Math.abs(x) >= 1e4 || (x !== 0 && Math.abs(x) < 1e-3) ? x.toExponential(1) : String(+x.toPrecision(3)));

// --- the plane ----------------------------------------------------------------------------------------------

class Plane {
  constructor(canvas, state) { this.canvas = canvas; this.state = state; this.lines = this.tiles = this.kept = null; this.version = 0; }

  // from θ to pixels and back; on the line the height is the loss
  frame(width, height) {
    const { scene } = this.state;
    const [x0, x1] = scene.box[0];
    const [y0, y1] = scene.box.length === 2 ? scene.box[1] : scene.span;
    const left = 44, bottom = 30, w = width - left - 8, h = height - bottom - 8;
    return {
      x: (v) => left + ((v - x0) / (x1 - x0)) * w, y: (v) => 8 + (1 - (v - y0) / (y1 - y0)) * h,
      back: (px, py) => [x0 + ((px - left) / w) * (x1 - x0), y0 + (1 - (py - 8) / h) * (y1 - y0)],
      left, bottom, w, h, x0, x1, y0, y1,
    };
  }

  setScene(scene, values) {
    scene.values = values;
    this.lines = null;
    this.tiles = null;
    if (scene.box.length === 1) {
      const finite = Array.from(values).filter(Number.isFinite);
      const low = Math.min(...finite), high = Math.max(...finite), room = 0.05 * (high - low || 1);
      scene.span = [low - room, high + room];
    }
  }

  setBasins(message, part) {
    const [rows, columns] = message.shape.length === 2 ? message.shape : [1, message.shape[0]];
    const canvas = this.tiles || document.createElement("canvas");
    canvas.width = columns; canvas.height = rows;
    const pen = canvas.getContext("2d"), image = pen.createImageData(columns, rows), index = bytes(part);
    const colors = message.colors.map((c) => [1, 3, 5].map((k) => parseInt(c.slice(k, k + 2), 16)));
    for (let j = 0; j < rows; j++) {
      for (let i = 0; i < columns; i++) {
        const at = 4 * ((rows - 1 - j) * columns + i), color = colors[index[j * columns + i]];
        image.data[at] = color[0]; image.data[at + 1] = color[1]; image.data[at + 2] = color[2]; image.data[at + 3] = 150;
      }
    }
    pen.putImageData(image, 0, 0);
    this.tiles = canvas;
    this.version++;
  }

  contours(frame, ink) {
    const { scene } = this.state, n = scene.grid, key = `${frame.w} ${frame.h} ${ink}`;
    if (this.lines && this.lines.key === key) return this.lines.path;
    const path = new Path2D();
    const px = (i) => frame.left + (i / (n - 1)) * frame.w, py = (j) => 8 + (1 - j / (n - 1)) * frame.h;
    if (scene.box.length === 1) {
      let down = false;
      scene.values.forEach((v, i) => {
        if (!Number.isFinite(v)) down = false;
        else if (down) path.lineTo(px(i), frame.y(v));
        else { path.moveTo(px(i), frame.y(v)); down = true; }
      });
    } else {
      for (const level of scene.levels) contour(scene.values, n, level, (a, b, c, d) => { path.moveTo(px(a), py(b)); path.lineTo(px(c), py(d)); });
    }
    this.lines = { key, path };
    return path;
  }

  // what does not follow the hand is drawn once, on a sheet of its own
  under(width, height, ratio, { ink, faint }) {
    const { scene, field, many, values } = this.state, shown = new Set(values.shown);
    const key = [width, height, ratio, ink, this.version, shown.has("basins"), shown.has("field"), shown.has("many")].join();
    const kept = [scene, shown.has("field") && field, shown.has("many") && many];
    if (this.kept && this.kept.key === key && kept.every((part, i) => part === this.kept.parts[i])) return this.kept.canvas;
    const canvas = this.kept ? this.kept.canvas : document.createElement("canvas");
    canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
    const pen = canvas.getContext("2d"), flat = scene.box.length === 1;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.font = "11px system-ui, sans-serif";
    const f = (this.at = this.frame(width, height));
    pen.save();
    pen.beginPath(); pen.rect(f.left, 8, f.w, f.h); pen.clip();
    if (this.tiles && shown.has("basins")) {
      pen.imageSmoothingEnabled = false;
      pen.drawImage(this.tiles, f.left, flat ? 8 + f.h - 14 : 8, f.w, flat ? 14 : f.h);
    }
    pen.strokeStyle = faint; pen.globalAlpha = flat ? 1 : 0.55; pen.lineWidth = flat ? 1.6 : 0.8;
    pen.stroke(this.contours(f, ink));
    pen.globalAlpha = 1;
    if (field && shown.has("field")) this.arrows(pen, f, field, ink, flat);
    if (many && shown.has("many")) this.bundle(pen, f, many, flat, (x) => this.state.lossAt(x));
    pen.restore();
    pen.strokeStyle = faint; pen.lineWidth = 1; pen.strokeRect(f.left, 8, f.w, f.h);
    pen.fillStyle = ink; pen.textAlign = "center"; pen.textBaseline = "top";
    for (let k = 0; k <= 4; k++) pen.fillText(short(f.x0 + (k / 4) * (f.x1 - f.x0)), f.left + (k / 4) * f.w - (k === 4 ? 8 : 0), 11 + f.h);
    pen.fillText(scene.names[0], f.left + 0.625 * f.w, 11 + f.h);
    pen.textAlign = "right"; pen.textBaseline = "middle";
    for (let k = 0; k <= 4; k++) pen.fillText(short(f.y0 + (k / 4) * (f.y1 - f.y0)), f.left - 4, 8 + (1 - k / 4) * f.h + (k === 4 ? 5 : 0));
    pen.fillText(flat ? "L" : scene.names[1], f.left - 14, 8 + 0.375 * f.h);
    this.kept = { key, parts: kept, canvas };
    return canvas;
  }

  draw() {
    const paper = sheet(this.canvas), { pen, width, height, ink, ground } = paper;
    const { scene, path, perturbed, values } = this.state;
    if (!scene || !width) return;
    pen.drawImage(this.under(width, height, window.devicePixelRatio || 1, paper), 0, 0, width, height);
    const f = this.at, flat = scene.box.length === 1, level = (x) => this.state.lossAt(x);
    pen.save();
    pen.beginPath(); pen.rect(f.left, 8, f.w, f.h); pen.clip();
    if (path) this.path(pen, f, path, flat, level, ink, ground);
    if (perturbed && values.shown.includes("perturbed")) {
      pen.fillStyle = "#e69f00";
      const each = flat ? 1 : 2, last = Math.min(this.state.until(), perturbed.length / each);
      for (let k = 0; k < last; k++) {
        const x = perturbed[each * k], y = flat ? level(x) : perturbed[2 * k + 1];
        pen.fillRect(f.x(x) - 1.5, f.y(y) - 1.5, 3, 3);
      }
    }
    for (const p of scene.points) {
      const y = flat ? level(p.at[0]) : p.at[1];
      mark(pen, MARKS[p.kind], f.x(p.at[0]), f.y(y), 5, p.kind === "minimum" ? "#2e7d4f" : "#7a1fa0", "#fff");
    }
    const [sx, sy] = values.start;
    mark(pen, "o", f.x(sx), f.y(flat ? level(sx) : sy), 7, "#d55e00", "#fff");
    pen.restore();
  }

  arrows(pen, f, [points, moves], ink, flat) {
    const each = flat ? 1 : 2, reach = (0.45 * f.w) / 18;
    pen.strokeStyle = ink; pen.lineWidth = 1; pen.globalAlpha = 0.7;
    pen.beginPath();
    for (let k = 0; k < points.length; k += each) {
      const x = f.x(points[k]), y = flat ? 8 + 0.1 * f.h : f.y(points[k + 1]);
      const dx = f.x(points[k] + moves[k]) - x, dy = flat ? 0 : f.y(points[k + 1] + moves[k + 1]) - y;
      const length = Math.hypot(dx, dy);
      if (!(length > 0) || !Number.isFinite(length)) continue;
      const size = (reach * Math.log1p(length)) / (1 + Math.log1p(length)), ux = (dx / length) * size, uy = (dy / length) * size;
      pen.moveTo(x, y); pen.lineTo(x + ux, y + uy);
      pen.lineTo(x + 0.6 * ux - 0.25 * uy, y + 0.6 * uy + 0.25 * ux);
      pen.moveTo(x + ux, y + uy); pen.lineTo(x + 0.6 * ux + 0.25 * uy, y + 0.6 * uy - 0.25 * ux);
    }
    pen.stroke();
    pen.globalAlpha = 1;
  }

  bundle(pen, f, { runs, theta }, flat, level) {
    const each = flat ? 1 : 2, times = theta.length / (each * runs);
    pen.strokeStyle = "#0072b2"; pen.lineWidth = 0.8; pen.globalAlpha = 0.7;
    pen.beginPath();
    for (let r = 0; r < runs; r++) {
      for (let k = 0; k < times; k++) {
        const at = each * (r * times + k), x = f.x(theta[at]), y = f.y(flat ? level(theta[at]) : theta[at + 1]);
        if (k) pen.lineTo(x, y); else pen.moveTo(x, y);
      }
    }
    pen.stroke();
    pen.globalAlpha = 1;
  }

  path(pen, f, { theta }, flat, level, ink, ground) {
    const each = flat ? 1 : 2, last = Math.min(this.state.until(), theta.length / each);
    pen.strokeStyle = ink; pen.lineWidth = 1.5; pen.lineJoin = "round";
    pen.beginPath();
    for (let k = 0; k < last; k++) {
      const x = f.x(theta[each * k]), y = f.y(flat ? level(theta[k]) : theta[2 * k + 1]);
      if (k) pen.lineTo(x, y); else pen.moveTo(x, y);
    }
    pen.stroke();
    pen.fillStyle = ink;
    if (last <= 300) for (let k = 0; k < last; k++) pen.fillRect(f.x(theta[each * k]) - 1.5, f.y(flat ? level(theta[k]) : theta[2 * k + 1]) - 1.5, 3, 3);
    const end = last - 1;
    mark(pen, "s", f.x(theta[each * end]), f.y(flat ? level(theta[end]) : theta[2 * end + 1]), 5, ink, ground);
  }
}

// --- the panels ---------------------------------------------------------------------------------------------

function drawSeries(canvas, { loss, gap, every }, until) {
  const { pen, width, height, ink, faint } = sheet(canvas);
  const left = 46, w = width - left - 8, h = height - 22, curves = [[gap, "#0072b2", []], [loss, "#d55e00", [5, 3]]];
  const positive = curves.flatMap(([v]) => Array.from(v).filter((x) => x > 0 && Number.isFinite(x))).map(Math.log10);
  if (!positive.length) return;
  let low = Infinity, high = -Infinity;
  for (const x of positive) { if (x < low) low = x; if (x > high) high = x; }
  low = Math.max(low, high - 14) - 0.1; high += 0.1;
  pen.strokeStyle = faint; pen.strokeRect(left, 4, w, h);
  pen.fillStyle = ink; pen.textAlign = "right"; pen.textBaseline = "middle";
  pen.fillText(`1e${Math.round(high)}`, left - 4, 9); pen.fillText(`1e${Math.round(low)}`, left - 4, h);
  pen.textAlign = "center"; pen.textBaseline = "top";
  const last = (loss.length - 1) * every;
  pen.fillText("0", left, h + 7); pen.fillText("step", left + w / 2, h + 7); pen.fillText(String(last), left + w - 10, h + 7);
  for (const [values, color, dash] of curves) {
    pen.strokeStyle = color; pen.lineWidth = 1.4; pen.setLineDash(dash);
    pen.beginPath();
    let down = false;
    const shown = Math.min(until, values.length);
    for (let k = 0; k < shown; k++) {
      if (!(values[k] > 0) || !Number.isFinite(values[k])) { down = false; continue; }
      const x = left + (k / Math.max(1, values.length - 1)) * w, y = 4 + (1 - (Math.max(low, Math.log10(values[k])) - low) / (high - low)) * h;
      if (down) pen.lineTo(x, y); else pen.moveTo(x, y);
      down = true;
    }
    pen.stroke();
  }
  pen.setLineDash([]);
}

function drawCircle(canvas, points, found, count) {
  const { pen, width, height, faint } = sheet(canvas);
  const size = height / 2 - 6, middle = width / 2, y0 = height / 2, unit = size / 1.35;
  pen.strokeStyle = faint; pen.lineWidth = 1;
  pen.beginPath(); pen.arc(middle, y0, unit, 0, 7); pen.stroke();
  pen.beginPath(); pen.moveTo(middle - 2.2 * unit, y0); pen.lineTo(middle + 2.2 * unit, y0); pen.moveTo(middle, y0 - size); pen.lineTo(middle, y0 + size); pen.stroke();
  if (!found) return;
  points.forEach((p, i) => {
    for (let k = 0; k < count; k++) {
      const re = found[2 * count * i + k], im = found[2 * count * i + count + k];
      const x = middle + Math.max(-2.2, Math.min(2.2, re)) * unit, y = y0 - Math.max(-1.3, Math.min(1.3, im)) * unit;
      mark(pen, MARKS[p.kind], x, y, 4, p.kind === "minimum" ? "#2e7d4f" : "#7a1fa0", "#fff");
    }
  });
}

function drawShares(canvas, { names, colors, shares }) {
  const { pen, width, height, ink, faint } = sheet(canvas);
  const rows = names.map((n, i) => [n, colors[i], shares[i]]).filter(([, , s]) => s > 0).sort((a, b) => b[2] - a[2]).slice(0, 7);
  const step = Math.min(17, (height - 4) / Math.max(1, rows.length));
  pen.textBaseline = "middle";
  rows.forEach(([name, color, share], i) => {
    const y = 4 + i * step, w = width - 240;
    pen.fillStyle = color; pen.fillRect(150, y, share * w, step - 3);
    pen.strokeStyle = faint; pen.strokeRect(150, y, w, step - 3);
    pen.fillStyle = ink; pen.textAlign = "right"; pen.fillText(name, 144, y + step / 2 - 1);
    pen.textAlign = "left"; pen.fillText(`${(100 * share).toFixed(2)} %`, 158 + w, y + step / 2 - 1);
  });
}

function drawStay(canvas, counts, edges, law) {
  const { pen, width, height, ink, faint } = sheet(canvas);
  if (!counts) return;
  const left = 46, w = width - left - 8, h = height - 22, most = Math.max(1, ...counts, ...(law || []));
  pen.fillStyle = "#56b4e9";
  counts.forEach((c, i) => pen.fillRect(left + (i / counts.length) * w, 4 + h - (c / most) * h, w / counts.length - 1, (c / most) * h));
  pen.strokeStyle = faint; pen.strokeRect(left, 4, w, h);
  if (law) {
    pen.strokeStyle = ink; pen.lineWidth = 1.6; pen.beginPath();
    law.forEach((c, i) => pen[i ? "lineTo" : "moveTo"](left + ((i + 0.5) / law.length) * w, 4 + h - (c / most) * h));
    pen.stroke();
  }
  pen.fillStyle = ink; pen.textAlign = "center"; pen.textBaseline = "top";
  pen.fillText(short(edges[0]), left, h + 7); pen.fillText("steps until it leaves", left + w / 2, h + 7);
  pen.fillText(short(edges[edges.length - 1]), left + w - 12, h + 7);
  pen.textAlign = "right"; pen.textBaseline = "middle"; pen.fillText(String(most | 0), left - 4, 9); pen.fillText("runs", left - 4, 4 + h / 2);
}

// --- all together -------------------------------------------------------------------------------------------

export function mount(root, carrier) {
  root.classList.add("flatdyn-explorer");
  if (document.body.dataset.jpThemeLight !== undefined) root.dataset.jp = "";
  const state = { values: null, ranges: null, scene: null, path: null, field: null, perturbed: null, many: null, basins: null, stay: null, multipliers: null, shown: Infinity };
  const timings = [], reported = {};
  let number = 0, waiting = null, changed = null, moved = performance.now(), silence = 0, playing = 0, ended = false;
  state.until = () => state.shown;
  state.lossAt = (x) => {
    const [a, b] = state.scene.box[0], n = state.scene.grid, at = Math.max(0, Math.min(n - 1.001, ((x - a) / (b - a)) * (n - 1))), i = Math.floor(at);
    return state.scene.values[i] * (1 - at + i) + state.scene.values[i + 1] * (at - i);
  };

  // controls
  const controls = element("fieldset", { class: "controls", "aria-label": "controls" });
  const choose = (name, text, wide = true) => {
    const select = element("select", { name, "aria-label": text });
    controls.append(element("label", { class: wide ? "wide" : "" }, text, select));
    select.addEventListener("change", () => move({ [name]: name === "steps" ? Number(select.value) : select.value }));
    return select;
  };
  const selects = { landscape: choose("landscape", "landscape"), method: choose("method", "method"), steps: choose("steps", "steps") };
  const expression = element("input", { name: "expression", type: "text", placeholder: "(x**2 - 1)**2/4 + y**2/2", "aria-label": "a loss in x and y" });
  controls.append(element("label", { class: "wide" }, "expression", expression));
  expression.addEventListener("change", () => move({ landscape: "expression", expression: expression.value }));
  const sliders = {};
  for (const [name, text, log] of NUMBERS) {
    const range = element("input", { type: "range", min: "0", max: "1", step: "0.002", name, "aria-label": text });
    const box = element("input", { type: "text", inputmode: "decimal", name: `${name} value`, "aria-label": `${text}, as a number` });
    controls.append(element("label", {}, text, range, box));
    range.addEventListener("input", () => { const v = fromSlider(name, log, Number(range.value)); box.value = short(v); move({ [name]: v }); });
    box.addEventListener("change", () => move({ [name]: box.value.trim() === "" ? null : Number.isNaN(Number(box.value)) ? box.value : Number(box.value) }));
    sliders[name] = { range, box, log };
  }
  selects.ascent = choose("ascent", "SAM's ascent");
  const seed = element("input", { name: "seed", type: "number", min: "0", step: "1", "aria-label": "seed" });
  controls.append(element("label", { class: "wide" }, "seed", seed));
  seed.addEventListener("change", () => move({ seed: Number(seed.value) }));

  const ends = (name) => (name === "lr" ? state.ranges.lr : name === "rho" ? [0, state.ranges.rho[state.values.method]] : name === "momentum" ? [0, 0.99] : name === "scale" ? [0, state.ranges.scale] : [1, 4096]);
  function fromSlider(name, log, share) {
    const [a, b] = ends(name);
    const v = log ? a * Math.pow(b / a, share) : a + share * (b - a);
    return name === "batch_size" ? Math.round(v) : Number(v.toPrecision(3));
  }
  function toSlider(name, log, v) {
    const [a, b] = ends(name);
    return Math.max(0, Math.min(1, log ? Math.log(v / a) / Math.log(b / a) : (v - a) / (b - a)));
  }

  // plane, panels, buttons
  const canvas = element("canvas", { class: "plane", tabindex: "0", role: "application", "aria-label": "the plane: drag the start, or move it with the arrow keys" });
  const plane = new Plane(canvas, state);
  const panel = (title, label) => {
    const paper = element("canvas", { role: "img", "aria-label": label }), text = element("p", {});
    return { root: element("div", { class: "panel" }, element("h4", {}, title), paper, text), paper, text };
  };
  const panels = {
    series: panel("distance (blue) and loss (orange, dashed) against the step", "distance to the nearest critical point, and loss, against the step"),
    circle: panel("multipliers and the unit circle", "multipliers of the critical points in view"),
    shares: panel("shares of the basins", "shares of the basins in view"),
    stay: panel("how long runs stay", "histogram of escape times"),
  };
  const side = element("div", { class: "panels" }, ...Object.values(panels).map((p) => p.root));
  const buttons = element("div", { class: "row" });
  const press = (text, does) => { const b = element("button", { type: "button" }, text); b.addEventListener("click", does); buttons.append(b); return b; };
  const play = press("Play", () => { if (playing) pause(); else { if (state.shown >= (state.path ? state.path.loss.length : 0)) state.shown = 1; playing = requestAnimationFrame(tick); play.textContent = "Pause"; } });
  press("Reset", () => { pause(); state.shown = Infinity; move({ ...state.first }); });
  const layers = {};
  for (const [name, text] of Object.entries(LAYERS)) {
    const box = element("input", { type: "checkbox", name });
    box.addEventListener("change", () => move({ shown: Object.keys(LAYERS).filter((n) => layers[n].checked) }));
    layers[name] = box;
    buttons.append(element("label", {}, box, text));
  }
  const status = element("p", { class: "status", role: "status", "aria-live": "polite" }, "waiting for the kernel …");
  const code = element("pre", { tabindex: "0", "aria-label": "the same in Python" });
  root.append(controls, buttons, status, canvas, side, code);

  function pause() { cancelAnimationFrame(playing); playing = 0; play.textContent = "Play"; }
  function tick() {
    const total = state.path ? state.path.loss.length : 0;
    state.shown = Math.min(total, state.shown + Math.max(1, Math.ceil(total / 240)));
    draw();
    if (state.shown < total) playing = requestAnimationFrame(tick); else { state.shown = Infinity; pause(); }
  }

  // what the hand does: the newest state is sent as soon as the one before is answered
  function move(change) {
    if (!state.values) return;
    if (!state.first) state.first = state.values;
    state.values = { ...state.values, ...change };
    moved = performance.now();
    changed = state.values;
    if (waiting === null) send();
    show();
    paint();
  }
  function send() {
    waiting = { number: ++number, moved };
    const values = changed;
    changed = null;
    wait();
    carrier.send({ kind: "set", number, values });
  }
  function wait() {
    clearTimeout(silence);
    silence = setTimeout(() => { waiting = null; say("The kernel has not answered: it may be busy, or was restarted. Then run the cell again.", true); }, PATIENCE);
  }
  function say(text, wrong = false) { status.textContent = text; status.classList.toggle("wrong", wrong); }

  function show() {
    const v = state.values;
    for (const [name, select] of Object.entries(selects)) select.value = String(v[name]);
    for (const [name, { range, box, log }] of Object.entries(sliders)) {
      const off = (name === "rho" && ["GD", "Nesterov"].includes(v.method)) || (state.ownNoise && ["scale", "batch_size"].includes(name)) || (name === "batch_size" && !v.scale);
      range.disabled = box.disabled = off;
      if (typeof v[name] === "number") { range.value = String(toSlider(name, log, v[name])); if (document.activeElement !== box) box.value = short(v[name]); }
    }
    if (document.activeElement !== expression) expression.value = v.expression;
    selects.ascent.disabled = !v.scale && !state.ownNoise;
    seed.value = v.seed;
    for (const [name, box] of Object.entries(layers)) box.checked = v.shown.includes(name);
  }

  // without a kernel there is no answer to these
  function hold() {
    for (const box of [expression, seed, selects.steps, layers.field, layers.perturbed, layers.many]) { box.disabled = true; box.closest("label").hidden = true; }
    for (const name of ["scale", "batch_size"]) sliders[name].range.closest("label").hidden = true;
    selects.ascent.closest("label").hidden = true;
    panels.stay.root.hidden = true;
  }

  // drawing, once a frame
  let drawing = 0;
  function paint(kind, since) {
    if (kind) pending.push([kind, since]);
    if (drawing) return;
    drawing = requestAnimationFrame(() => {
      drawing = 0;
      draw();
      const done = pending.splice(0), after = new MessageChannel(); // its message comes when the frame is painted
      after.port1.onmessage = () => {
        after.port1.close();
        for (const [what, since] of done) timings.push({ kind: what, ms: performance.now() - since });
        if (timings.length > 5000) timings.splice(0, 2500);
      };
      after.port2.postMessage(0);
    });
  }
  const pending = [], drawn = {};
  function renew(name, parts, does) {
    const key = [...parts, panels[name].paper.clientWidth, getComputedStyle(root).color];
    if (drawn[name] && key.every((part, i) => part === drawn[name][i])) return;
    drawn[name] = key;
    does();
  }
  function draw() {
    if (!state.values) return;
    const { path, scene, multipliers, basins, stay, shown } = state;
    plane.draw();
    if (path) renew("series", [path, shown], () => drawSeries(panels.series.paper, path, shown));
    if (scene) renew("circle", [scene, multipliers], () => drawCircle(panels.circle.paper, scene.points, multipliers && multipliers.found, multipliers ? multipliers.count : 0));
    if (basins) renew("shares", [basins], () => drawShares(panels.shares.paper, basins));
    if (stay) renew("stay", [stay], () => drawStay(panels.stay.paper, stay.counts, stay.edges, stay.law));
  }

  const takes = {
    controls(m) {
      state.values = { ...state.values, ...m.values };
      if (m.ranges) state.ranges = m.ranges;
      const fill = (select, words) => words && select.replaceChildren(...words.map((w) => element("option", { value: String(w) }, String(w).replaceAll("_", " "))));
      fill(selects.landscape, m.landscapes); fill(selects.method, m.methods); fill(selects.ascent, m.ascents);
      if (m.lengths) fill(selects.steps, [...new Set([...m.lengths, m.values.steps])].sort((a, b) => a - b));
      if ("own_noise" in m) state.ownNoise = m.own_noise;
      if (m.still) hold();
      show();
    },
    scene(m, parts) {
      state.scene = m;
      state.path = state.field = state.perturbed = state.many = state.basins = state.stay = state.multipliers = null;
      plane.setScene(m, floats(parts[0]));
      state.note = m.note;
    },
    path(m, parts) {
      state.path = { theta: floats(parts[0]), loss: floats(parts[1]), gap: floats(parts[2]), every: m.every };
      code.textContent = m.code;
      const end = m.end.map(short).join(", ");
      state.busy = false;
      state.said = `${m.status} after ${m.steps} steps at (${end})${m.near ? `, nearest: ${m.near}` : ""}${state.note ? `. Note: ${state.note}` : ""}`;
      say(state.said);
      reported.path = m;
    },
    multipliers(m, parts) {
      state.multipliers = { found: parts.length ? floats(parts[0]) : null, count: m.count };
      panels.circle.text.textContent = m.text;
      reported.multipliers = { ...m, found: state.multipliers.found };
    },
    field(m, parts) { state.field = [floats(parts[0]), floats(parts[1])]; },
    perturbed(m, parts) { state.perturbed = parts.length ? floats(parts[0]) : null; },
    many(m, parts) { state.many = { runs: m.runs, theta: floats(parts[0]) }; },
    basins(m, parts) { state.basins = m; plane.setBasins(m, parts[0]); reported.basins = m; },
    stay(m, parts) {
      const [counts, edges, law] = parts.map(floats);
      state.stay = { counts, edges, law };
      panels.stay.text.textContent = m.text;
      reported.stay = m;
    },
    working(m) { state.busy = true; say(m.text); },
    wrong(m) { say(m.text, true); waiting = null; clearTimeout(silence); if (changed) send(); },
    done() { waiting = null; clearTimeout(silence); if (changed) send(); },
  };
  carrier.listen((message, parts) => {
    if (ended) return;
    const since = waiting && waiting.number === message.number ? waiting.moved : moved;
    (takes[message.kind] || (() => {}))(message, parts || []);
    if (waiting) wait();
    if (state.busy && ["multipliers", "many", "basins", "stay"].includes(message.kind)) {
      state.busy = false;
      if (state.said) say(state.said);
    }
    reported.number = message.number;
    reported.last = message.kind;
    const named = message.kind === "basins" ? `basins ${message.shape[0]}` : message.kind;
    paint(named, since);
  });

  // the start: dragged, or moved by the arrow keys
  let dragging = false;
  const place = (event) => {
    const box = canvas.getBoundingClientRect(), at = plane.at.back(event.clientX - box.left, event.clientY - box.top);
    const inside = state.scene.box.map(([a, b], i) => Math.max(a, Math.min(b, at[i])));
    move({ start: inside.map((x) => Number(x.toPrecision(6))) });
  };
  canvas.addEventListener("pointerdown", (e) => { if (!state.scene) return; dragging = true; canvas.setPointerCapture(e.pointerId); place(e); });
  canvas.addEventListener("pointermove", (e) => { if (dragging) place(e); });
  canvas.addEventListener("pointerup", () => { dragging = false; });
  canvas.addEventListener("pointercancel", () => { dragging = false; });
  canvas.addEventListener("keydown", (e) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[e.key];
    if (!step || !state.scene) return;
    e.preventDefault(); e.stopPropagation();
    const size = e.shiftKey ? 0.1 : 0.01;
    move({ start: state.values.start.map((x, i) => { const [a, b] = state.scene.box[i]; return Number(Math.max(a, Math.min(b, x + step[i] * size * (b - a))).toPrecision(6)); }) });
  });
  const watch = new ResizeObserver(() => paint());
  watch.observe(root);
  root.explorer = { state, timings, reported, idle: () => waiting === null && changed === null, move };
  carrier.send({ kind: "ready", number: 0 });
  return () => { ended = true; watch.disconnect(); cancelAnimationFrame(playing); clearTimeout(silence); };
}

export default {
  render({ model, el }) {
    const heard = [];
    const root = element("div");
    el.append(root);
    const listen = (does) => { const on = (message, parts) => does(message, parts); heard.push(on); model.on("msg:custom", on); };
    const end = mount(root, { send: (message) => model.send(message), listen });
    return () => { end(); for (const on of heard) model.off("msg:custom", on); };
  },
};
