// What the pages gain by a script: live updates that can be paused, keys, a palette, completion, a chart, dialogs.
// Everything that can be read or done works without it.

const root = document.documentElement.dataset.root ?? "";
const $ = (selector, within = document) => within.querySelector(selector);
const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];

/** What this browser keeps for its user; a browser that keeps nothing is no reason to fail. */
const kept = {
  get(name) { try { return localStorage.getItem(`perdure-${name}`); } catch { return null; } },
  set(name, value) { try { localStorage.setItem(`perdure-${name}`, value); } catch { /* then not */ } },
};

// ------------------------------------------------------------------------------------------------ theme

const THEMES = ["system", "light", "dark"];

function showTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  for (const name of $$("[data-theme-name]")) name.textContent = `Theme: ${theme}`;
  document.dispatchEvent(new CustomEvent("perdure:theme"));
}

function nextTheme() {
  const now = kept.get("theme") ?? "system";
  const next = THEMES[(THEMES.indexOf(now) + 1) % THEMES.length];
  kept.set("theme", next);
  showTheme(next);
  announce(`Theme: ${next}`);
}

// ------------------------------------------------------------------------------------- said out loud

let lastSaid = 0;

/** Tell a screen reader; of many things at once only the first is said. */
function announce(text) {
  if (Date.now() - lastSaid < 1000) return;
  lastSaid = Date.now();
  $("#announcer").textContent = text;
}

// ------------------------------------------------------------------------------------------------- live

const live = $("#live");
const pulse = $("[data-pulse]");
let paused = false;

function showPulse(text, bad = false) {
  if (!pulse) return;
  pulse.hidden = false;
  pulse.classList.toggle("bad", bad);
  $("[data-pulse-text]").textContent = text;
}

function togglePause() {
  paused = !paused;
  $("[data-do=pause]")?.setAttribute("aria-pressed", String(paused));
  showPulse(paused ? "Paused" : "Live");
  announce(paused ? "Live updates paused" : "Live updates resumed");
}

function showTrouble(text) {
  const note = $("#trouble");
  note.hidden = !text;
  note.textContent = text ? `What you see is not up to date: ${text}` : "";
  if (!paused) showPulse(text ? "Trouble" : "Live", Boolean(text));
}

document.addEventListener("htmx:sse:before:message", (event) => {
  const name = event.detail.message?.event;
  // A page that is paused stays as it is, and so does one in whose live part somebody is choosing from a menu.
  if (paused && !name) event.preventDefault();
});
document.addEventListener("htmx:sse:after:connection", () => showPulse(paused ? "Paused" : "Live"));
document.addEventListener("htmx:sse:error", () => showTrouble("the server does not answer; trying again"));
live?.addEventListener("trouble", (event) => showTrouble(event.detail?.data ?? "the database does not answer"));
live?.addEventListener("well", () => showTrouble(""));
live?.addEventListener("htmx:sse:after:message", () => { chooseRow(chosen); showTimes(); });

// ------------------------------------------------------------------------------------------------ times

const UNITS = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];

function ago(moment) {
  const seconds = (Date.now() - moment) / 1000;
  if (Math.abs(seconds) < 1) return "now";
  const [unit, size] = UNITS.find(([, length]) => Math.abs(seconds) >= length) ?? UNITS[3];
  const amount = `${Math.floor(Math.abs(seconds) / size)} ${unit}`;
  return seconds >= 0 ? `${amount} ago` : `in ${amount}`;
}

/** Relative times go on between updates; the title has the viewer's own time beside that of the server. */
function showTimes() {
  for (const time of $$("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (Number.isNaN(moment.valueOf())) continue;
    const text = ago(moment.valueOf());
    if (time.textContent !== text) time.textContent = text;
    if (!time.dataset.local) {
      time.dataset.local = "yes";
      time.title = `${moment.toLocaleString()} (${time.title} UTC)`;
    }
  }
}

// ------------------------------------------------------------------------------------------------ chart

const SERIES = ["enqueued", "completed", "failed"];

/** The viewer's time of the day. */
const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

class PerdureChart extends HTMLElement {
  static observedAttributes = ["data-points"];

  connectedCallback() {
    this.onTheme = () => this.draw();
    document.addEventListener("perdure:theme", this.onTheme);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", this.onTheme);
    this.watcher = new ResizeObserver(([entry]) => {
      const width = Math.floor(entry.contentRect.width);
      if (this.plot && width > 0 && width !== this.plot.width) this.plot.setSize({ width, height: 190 });
    });
    this.watcher.observe(this);
    this.draw();
  }

  disconnectedCallback() {
    document.removeEventListener("perdure:theme", this.onTheme);
    matchMedia("(prefers-color-scheme: dark)").removeEventListener("change", this.onTheme);
    this.watcher?.disconnect();
    this.plot?.destroy();
    this.plot = null;
  }

  attributeChangedCallback() {
    if (this.plot) this.plot.setData(this.points());
  }

  points() {
    const points = JSON.parse(this.dataset.points);
    return [points.at, ...SERIES.map((name) => points[name])];
  }

  draw() {
    if (!window.uPlot || !this.isConnected) return;
    this.plot?.destroy();
    this.replaceChildren();
    const style = getComputedStyle(document.body);
    const probe = (name) => {
      const span = document.createElement("span");
      span.className = `probe-${name}`;
      this.append(span);
      span.style.color = `var(--${name})`;
      const colour = getComputedStyle(span).color;
      span.remove();
      return colour;
    };
    const axis = { stroke: probe("muted"), grid: { stroke: probe("line"), width: 1 }, ticks: { show: false }, font: `11px ${style.fontFamily}` };
    const tip = document.createElement("div");
    tip.className = "chart-tip";
    tip.hidden = true;
    this.plot = new window.uPlot({
      width: Math.max(200, this.clientWidth),
      height: 190,
      padding: [8, 8, 0, 0],
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 } },
      legend: { show: false },
      scales: { y: { range: (_, low, high) => [0, Math.max(1, high * 1.08)] } },
      axes: [
        { ...axis, size: 26, gap: 8, values: (_, ticks) => ticks.map(clock) },
        { ...axis, size: 46, values: (_, ticks) => ticks.map((tick) => (tick % 1 ? "" : tick >= 1000 ? `${tick / 1000}k` : `${tick}`)) },
      ],
      series: [
        {},
        ...SERIES.map((name) => {
          const colour = probe(`c-${name}`);
          return { label: name, stroke: colour, width: 1.75, fill: colour.replace("rgb(", "rgba(").replace(")", ", 0.07)"), points: { show: false } };
        }),
      ],
      hooks: { setCursor: [(plot) => showTip(plot, tip)] },
    }, this.points(), this);
    $(".u-over", this)?.append(tip);
    const canvas = $("canvas", this);
    canvas?.setAttribute("role", "img");
    canvas?.setAttribute("aria-label", "Jobs enqueued, completed and failed in each minute of the last hour; the table below says the same");
  }
}

function showTip(plot, tip) {
  const at = plot.cursor.idx;
  tip.hidden = at == null;
  if (at == null) return;
  const time = clock(plot.data[0][at]);
  tip.textContent = [time, ...SERIES.map((name, number) => `${name} ${plot.data[number + 1][at].toLocaleString()}`)].join("\n");
  const left = plot.valToPos(plot.data[0][at], "x");
  tip.style.left = `${left > plot.over.clientWidth / 2 ? left - tip.offsetWidth - 12 : left + 12}px`;
  tip.style.top = "8px";
}

// ------------------------------------------------------------------------------------------------- rows

let chosen = null;

const rows = () => $$(".rows tbody tr[data-href]");

function chooseRow(id, { focus = false } = {}) {
  for (const row of $$("tr.chosen")) row.classList.remove("chosen");
  const row = id && document.getElementById(id);
  if (!row) return;
  chosen = id;
  row.classList.add("chosen");
  if (focus) {
    row.scrollIntoView({ block: "nearest" });
    $("a", row)?.focus({ preventScroll: true });
  }
}

function moveRow(step) {
  const all = rows();
  if (!all.length) return;
  const at = all.findIndex((row) => row.id === chosen);
  const next = all[Math.max(0, Math.min(all.length - 1, at < 0 ? 0 : at + step))];
  chooseRow(next.id, { focus: true });
}

// ---------------------------------------------------------------------------------------------- dialogs

const dialog = $("#dialog");

document.addEventListener("htmx:after:swap", (event) => {
  const given = event.detail?.ctx?.target ?? event.target;
  const target = typeof given === "string" ? $(given) : given;
  if (target?.id !== "dialog-body" || dialog.open) return;
  dialog.showModal();
  $("input:not([type=hidden])", dialog)?.focus();
});

for (const one of $$("dialog")) {
  one.addEventListener("click", (event) => { if (event.target === one) one.close(); });
}

// ---------------------------------------------------------------------------------------------- palette

const palette = $("#palette");
const PAGES = $$(".side nav a").map((link) => ({ text: link.textContent.trim(), href: link.href, letter: link.dataset.letter }));
const ID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

function jumps(text) {
  const asked = text.trim();
  const found = PAGES.filter((page) => page.text.toLowerCase().includes(asked.toLowerCase()));
  if (ID.test(asked)) found.unshift({ text: `Job ${asked}`, href: `${root}/jobs/${asked.toLowerCase()}` });
  else if (asked) found.push({ text: `Jobs that match ${asked}`, href: `${root}/jobs?filter=${encodeURIComponent(asked)}` });
  return found;
}

/** A list to choose from below a field: arrows move, Enter takes, a click takes. */
function chooser(input, list, take) {
  let at = 0;
  const show = (items) => {
    at = 0;
    list.replaceChildren(...items.map((item, number) => {
      const line = document.createElement("li");
      line.id = `${list.id}-${number}`;
      line.setAttribute("role", "option");
      line.setAttribute("aria-selected", String(number === at));
      line.textContent = item.text ?? item;
      line.addEventListener("pointerdown", (event) => { event.preventDefault(); take(item); });
      return line;
    }));
    input.setAttribute("aria-activedescendant", items.length ? `${list.id}-${at}` : "");
  };
  const move = (step, items) => {
    at = (at + step + items.length) % items.length;
    [...list.children].forEach((line, number) => line.setAttribute("aria-selected", String(number === at)));
    list.children[at]?.scrollIntoView({ block: "nearest" });
    input.setAttribute("aria-activedescendant", `${list.id}-${at}`);
  };
  return { show, move, item: (items) => items[at] };
}

if (palette) {
  const input = $("#jump");
  const go = (item) => { if (item) location.href = item.href; };
  const choice = chooser(input, $("#jumps"), go);
  input.addEventListener("input", () => choice.show(jumps(input.value)));
  input.addEventListener("keydown", (event) => {
    const items = jumps(input.value);
    if (event.key === "ArrowDown" || event.key === "ArrowUp") { event.preventDefault(); if (items.length) choice.move(event.key === "ArrowDown" ? 1 : -1, items); }
    if (event.key === "Enter") { event.preventDefault(); go(choice.item(items)); }
  });
  palette.addEventListener("toggle", () => choice.show(jumps(input.value)));
}

function openPalette() {
  palette.showModal();
  $("#jump").value = "";
  $("#jump").dispatchEvent(new Event("input"));
  $("#jump").focus();
}

// ------------------------------------------------------------------------------------------- completion

function completeFilters(input) {
  const list = $("#completions");
  let items = [];
  let asked = 0;
  let open = false;
  const close = () => { open = false; list.hidden = true; input.setAttribute("aria-expanded", "false"); };
  const take = (item) => {
    const start = input.value.search(/\S*$/);
    input.value = input.value.slice(0, start) + item;
    close();
    input.focus();
    if (/[:.]$/.test(item)) look();
  };
  const choice = chooser(input, list, take);
  async function look() {
    const mine = ++asked;
    try {
      const answer = await fetch(`${input.dataset.completions}?text=${encodeURIComponent(input.value)}`);
      if (!answer.ok || mine !== asked) return;
      items = (await answer.json()).slice(0, 12);
    } catch { items = []; }
    if (!items.length || document.activeElement !== input) return close();
    open = true;
    choice.show(items);
    list.hidden = false;
    input.setAttribute("aria-expanded", "true");
  }
  let waiting = 0;
  input.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(look, 120); });
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" && !open) { look(); return; }
    if (!open) return;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") { event.preventDefault(); choice.move(event.key === "ArrowDown" ? 1 : -1, items); }
    else if (event.key === "Tab" && !event.shiftKey) { event.preventDefault(); take(choice.item(items)); }
    else if (event.key === "Escape") { event.stopPropagation(); close(); }
  });
}

// ------------------------------------------------------------------------------------------------- keys

let after = "";
const lettersOn = () => kept.get("letters") !== "off";
const typing = (target) => target.closest?.("input, textarea, select, [contenteditable]");

document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") { event.preventDefault(); openPalette(); return; }
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target) || $("dialog[open]") || !lettersOn()) return;
  const key = event.key;
  if (after === "g") {
    after = "";
    const page = PAGES.find((one) => one.letter === key);
    if (page) { event.preventDefault(); location.href = page.href; return; }
  }
  if (key === "g") { after = "g"; setTimeout(() => { after = ""; }, 1200); }
  else if (key === "/") { const field = $("#filter"); if (field) { event.preventDefault(); field.focus(); field.select(); } }
  else if (key === "?") $("#keys").showModal();
  else if (key === "j") moveRow(1);
  else if (key === "k") moveRow(-1);
  else if (key === ".") togglePause();
  else if (key === "[" || key === "]") $(`[data-step="${key === "[" ? 2 : 3}"]`)?.click();
});

// ---------------------------------------------------------------------------------------------- actions

document.addEventListener("click", (event) => {
  const button = event.target.closest?.("[data-do]");
  if (button) {
    const done = { theme: nextTheme, keys: () => $("#keys").showModal(), pause: togglePause };
    const what = button.dataset.do;
    if (what === "close") { if (dialog?.open) { event.preventDefault(); dialog.close(); } }
    else if (what === "letters") kept.set("letters", button.checked ? "on" : "off");
    else done[what]?.();
    return;
  }
  const row = event.target.closest?.(".rows tr[data-href]");
  if (row && !event.target.closest("a, button, input") && !String(getSelection())) chooseRow(row.id);
});
document.addEventListener("dblclick", (event) => {
  const row = event.target.closest?.(".rows tr[data-href]");
  if (row && !event.target.closest("a, button, input")) location.href = row.dataset.href;
});

// ------------------------------------------------------------------------------------------------ start

showTheme(kept.get("theme") ?? "system");
const letters = $("[data-do=letters]");
if (letters) letters.checked = lettersOn();
for (const input of $$("[data-completions]")) completeFilters(input);
customElements.define("perdure-chart", PerdureChart);
showTimes();
setInterval(showTimes, 10_000);
