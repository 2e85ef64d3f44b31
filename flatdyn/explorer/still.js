// The carrier of a page without a kernel: it answers from results that were computed before, for the nearest values.

const stored = JSON.parse(document.getElementById("answers").textContent);
const STATUS = ["undecided", "converged", "diverged", "impossible"];

function unpack(text) {
  const raw = atob(text), part = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) part[i] = raw.charCodeAt(i);
  return part;
}

function nearest(cells, values) {
  const of = (name) => [...new Set(cells.map((c) => c[name]))];
  const log = (x) => Math.log(Math.max(x, 1e-300));
  const pick = (all, v, scale) => all.reduce((a, b) => (Math.abs(scale(b) - scale(v)) < Math.abs(scale(a) - scale(v)) ? b : a));
  const own = cells.filter((c) => c.method === values.method);
  cells = own;
  const lr = pick(of("lr"), Number(values.lr) || 0, log);
  const momentum = pick(of("momentum"), Number(values.momentum) || 0, (x) => x);
  const rho = pick(of("rho"), Number(values.rho) || 0, (x) => x);
  return own.find((c) => c.lr === lr && c.momentum === momentum && c.rho === rho);
}

function stillCarrier() {
  let hear = () => {};
  const names = Object.keys(stored.planes);
  let values = null;
  const tell = (message, parts = []) => hear(message, parts);

  function scene() {
    const plane = stored.planes[values.landscape];
    tell({ ...plane.scene, number: 0 }, [unpack(plane.loss)]);
  }

  function answer(number) {
    const plane = stored.planes[values.landscape], box = plane.scene.box, n = stored.starts;
    const cell = nearest(plane.cells, values);
    const index = box.map(([a, b], i) => Math.max(0, Math.min(n - 1, Math.round(((values.start[i] - a) / (b - a)) * (n - 1)))));
    const start = box.map(([a, b], i) => Number((a + (index[i] / (n - 1)) * (b - a)).toPrecision(6)));
    values = { ...values, lr: cell.lr, momentum: cell.momentum, rho: cell.rho, start };
    const methods = stored.methods, rates = plane.cells.map((c) => c.lr);
    const rho = Object.fromEntries(methods.map((m) => [m, Math.max(...plane.cells.filter((c) => c.method === m).map((c) => c.rho)) || 1]));
    const ranges = { lr: [Math.min(...rates), Math.max(...rates)], rho, scale: 1 };
    tell({ kind: "controls", number, values, ranges });
    const run = index[1] * n + index[0], m = stored.points;
    const raw = new Uint16Array(unpack(cell.paths).buffer), theta = new Float32Array(2 * m), loss = new Float32Array(m), gap = new Float32Array(m);
    const grid = new Float32Array(unpack(plane.loss).buffer), side = plane.scene.grid, end = cell.ends[run];
    let near = null, least = Infinity;
    for (const p of plane.scene.points) {
      const d = Math.hypot(...p.at.map((x, i) => x - end[i]));
      if (d < least) { least = d; near = p; }
    }
    for (let k = 0; k < m; k++) {
      const at = [0, 1].map((i) => {
        const share = (raw[2 * (run * m + k) + i] / 65535) * (1 + 2 * stored.room) - stored.room;
        theta[2 * k + i] = box[i][0] + share * (box[i][1] - box[i][0]);
        return Math.max(0, Math.min(side - 1, Math.round(share * (side - 1))));
      });
      loss[k] = grid[at[1] * side + at[0]];
      gap[k] = near ? Math.hypot(theta[2 * k] - near.at[0], theta[2 * k + 1] - near.at[1]) : NaN;
    }
    const parts = [theta, loss, gap].map((f) => new Uint8Array(f.buffer));
    const numbers = `lr=${cell.lr.toPrecision(6)}${cell.rho ? `, rho=${cell.rho.toPrecision(6)}` : ""}${cell.momentum ? `, momentum=${cell.momentum}` : ""}`;
    const code = `process = fd.Iteration(fd.landscapes.${values.landscape}(), fd.${cell.method}(${numbers}))\nrun = fd.simulate(process, [${start.join(", ")}], ${stored.every * (m - 1)})`;
    const named = near ? `${near.kind} (${near.at.map((x) => x.toPrecision(3)).join(", ")})` : null;
    tell({ kind: "path", number, every: stored.every, steps: stored.every * (m - 1), status: STATUS[cell.status[run]], end, near: named, code }, parts);
    tell({ ...cell.multipliers[0], number }, cell.multipliers[1].map(unpack));
    tell({ ...cell.basins[0], number }, [unpack(cell.basins[1])]);
    tell({ kind: "done", number });
  }

  return {
    listen(does) { hear = does; },
    send(message) {
      if (message.kind === "ready") {
        const plane = stored.planes[names[0]], first = plane.cells.find((c) => c.method === (stored.methods[1] || stored.methods[0]));
        const [[a, b], [c, d]] = plane.scene.box;
        values = { landscape: names[0], expression: "", method: first.method, lr: first.lr, rho: first.rho, momentum: 0, scale: 0, batch_size: 1, ascent: "shared", start: [a + 0.7 * (b - a), c + 0.6 * (d - c)], steps: stored.every * (stored.points - 1), seed: 0, shown: ["basins"] };
        tell({ kind: "controls", number: 0, values, ranges: plane.ranges, landscapes: names, methods: stored.methods, ascents: ["shared"], lengths: [values.steps], own_noise: true, still: true });
        scene();
      } else {
        const moved = message.values.landscape !== values.landscape;
        values = { ...message.values, shown: message.values.shown.filter((n) => n === "basins") };
        if (moved) scene();
      }
      answer(message.number);
    },
  };
}

mount(document.getElementById("explorer"), stillCarrier());
