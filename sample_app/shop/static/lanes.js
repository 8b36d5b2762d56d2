// Draws requests on a time axis. No library, no build step.

const REDRAW_MS = 100;
const WATCH_MS = 30_000;
const WATCH_EVERY_MS = 100;
const COLOURS = ["#1f9e80", "#d1730a", "#5b7fe0", "#c2487a", "#8a63d2", "#7a8a1f"];

const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`;
const ask = async (path, options) => {
  const answer = await fetch(path, { cache: "no-store", ...options });
  if (!answer.ok) throw new Error(`${path}: status ${answer.status}`);
  return answer.json();
};
const add = (parent, tag, properties = {}) => parent.appendChild(Object.assign(document.createElement(tag), properties));

// --- bars: one line a request

// When the browser really sent a request: over HTTP/1.1 it keeps back all but six to one address.
const sentAt = (address, fallback) =>
  performance.getEntriesByName(address).at(-1)?.requestStart || fallback;

class Bar {
  constructor(list, number, path) {
    this.line = add(list, "li");
    this.label = add(this.line, "span", { textContent: `request ${number}` });
    this.track = add(this.line, "span", { className: "track" });
    this.parts = Object.fromEntries(
      ["browser", "queue", "work"].map((name) => [name, add(this.track, "i", { className: name })]));
    this.address = new URL(`${path}&request=${number}-${Date.now()}`, location.href).href;
  }

  async send(begin) {
    try {
      const told = await ask(this.address);
      const end = performance.now() - begin;
      const worked = (told.finished - told.started) * 1000;
      this.sent = Math.max(0, sentAt(this.address, begin) - begin);
      // The time of the answer's own way is in here: milliseconds.
      this.began = Math.max(this.sent, end - worked);
      this.end = end;
      this.label.textContent = `${told.worker ? `worker ${told.worker}` : "the thread"}, ${seconds(end)}`;
      Object.assign(this.line.dataset, { began: this.began, end, worker: told.worker ?? "", thread: told.thread });
    } catch (error) {
      this.failed = true;
      this.label.textContent = "failed";
      this.end = performance.now() - begin;
      this.line.title = error.message;
    }
  }

  draw(now, scale) {
    const end = this.end ?? now;
    const sent = this.sent ?? 0;
    const began = this.began ?? end;
    const place = (part, from, to) =>
      Object.assign(this.parts[part].style, { left: `${(100 * from) / scale}%`, width: `${(100 * (to - from)) / scale}%` });
    place("browser", 0, sent);
    place("queue", sent, began);
    place("work", began, end);
  }
}

async function fire(figure, count, ms) {
  const list = figure.querySelector(".bars");
  const sum = figure.querySelector(".sum");
  list.replaceChildren();
  sum.textContent = "";
  performance.clearResourceTimings();
  const bars = Array.from({ length: count }, (_, index) => new Bar(list, index + 1, `${figure.dataset.path}?ms=${ms}`));
  const begin = performance.now();
  const draw = () => {
    const now = performance.now() - begin;
    const scale = Math.max(2 * ms, now, ...bars.map((bar) => bar.end ?? 0));
    bars.forEach((bar) => bar.draw(now, scale));
  };
  const timer = matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : setInterval(draw, REDRAW_MS);
  await Promise.all(bars.map((bar) => bar.send(begin)));
  clearInterval(timer);
  draw();
  list.append(...bars.sort((one, other) => one.began - other.began).map((bar) => bar.line));
  const last = Math.max(...bars.map((bar) => bar.end));
  const failed = bars.filter((bar) => bar.failed).length;
  sum.textContent = `${count} requests of ${seconds(ms)}: the last client waited ${seconds(last)}.` +
    (failed ? ` ${failed} failed.` : "");
}

document.querySelector("#fire").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = new FormData(event.target);
  const button = event.target.querySelector("button");
  const count = Number(form.get("count"));
  const http1 = performance.getEntriesByType("navigation")[0]?.nextHopProtocol?.startsWith("http/1");
  document.querySelector("#limit").hidden = !(http1 && count > 6);
  button.disabled = true;
  // One server after the other, so that neither holds the connections that the other needs.
  for (const figure of document.querySelectorAll("#lanes figure")) await fire(figure, count, Number(form.get("ms")));
  button.disabled = false;
});

// --- the strip: who answers

class Strip {
  constructor(section) {
    this.path = section.dataset.path;
    this.place = section.querySelector(".strip");
    this.sum = section.querySelector(".sum");
  }

  // Begins anew when it watches already.
  async watch(span) {
    this.place.replaceChildren();
    Object.assign(this, { span, lines: new Map(), releases: [], processes: new Set(), answers: 0, failed: 0 });
    const begin = performance.now();
    this.begin = begin;
    while (this.begin === begin && performance.now() - begin < span) {
      this.look(begin);
      await new Promise((resolve) => setTimeout(resolve, WATCH_EVERY_MS));
    }
    if (this.begin === begin) this.begin = undefined;
  }

  async look(begin) {
    const at = performance.now() - begin;
    try {
      const told = await ask(this.path);
      if (this.begin !== begin) return; // of an earlier watch, or after its end
      this.mark(at, told);
      this.answers += 1;
    } catch {
      this.failed += 1;
    }
    this.sum.textContent = `${this.answers} answers of ${this.processes.size} processes and ` +
      `${this.releases.length} ${this.releases.length === 1 ? "release" : "releases"} (${this.releases.join(", ")}), ${this.failed} failed.`;
  }

  mark(at, told) {
    const who = told.worker ?? told.pid;
    if (!this.releases.includes(told.release)) this.releases.push(told.release);
    if (!this.lines.has(who)) {
      add(this.place, "span", { textContent: told.worker ? `worker ${who}` : `process ${who}` });
      this.lines.set(who, add(this.place, "span", { className: "line" }));
    }
    const mark = add(this.lines.get(who), "i", { className: this.processes.has(told.pid) ? "" : "first" });
    this.processes.add(told.pid);
    mark.style.left = `${(100 * at) / this.span}%`;
    mark.style.setProperty("--release", COLOURS[this.releases.indexOf(told.release) % COLOURS.length]);
  }
}

const strip = new Strip(document.querySelector("#watch"));

document.querySelector("#watch").addEventListener("click", async ({ target }) => {
  if (!target.dataset.deed) return;
  const { seconds: longer, hint = "", command } = target.dataset;
  const watching =
    longer || strip.begin === undefined ? strip.watch(longer ? longer * 1000 : WATCH_MS) : Promise.resolve();
  const told = document.querySelector("#watch .hint");
  told.textContent = `${hint} `;
  if (command) add(told, "kbd", { textContent: command });
  target.disabled = true;
  try {
    if (target.dataset.path) await new Promise((resolve) => setTimeout(resolve, 10 * WATCH_EVERY_MS));
    for (let left = Number(target.dataset.times ?? 1); target.dataset.path && left > 0; left -= 1) {
      await ask(target.dataset.path, { method: target.dataset.method ?? "GET" });
    }
    if (!target.dataset.path) await watching;
  } catch (error) {
    strip.sum.textContent = error.message;
  }
  target.disabled = false;
});
