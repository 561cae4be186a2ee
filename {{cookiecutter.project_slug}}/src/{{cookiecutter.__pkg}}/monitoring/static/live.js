// The live page: asks for the numbers at `stats` again and again, and shows them.
//
// They count since the server started. The history consists of the differences between two answers
// each, and only the open page keeps it.

// Milliseconds between two requests. The page's address can set it: /cache/?every=500
const EVERY = Math.max(100, Number(new URLSearchParams(location.search).get("every")) || 2000);
const TIMEOUT = 10_000; // milliseconds
const MOST = 1200; // steps in the history; beyond it every second one is dropped
const ENOUGH = 20; // look-ups; the hit rate of fewer means little
const POOR = 0.5; // the hit rate below which there is a warning

// Without the name and password that the page's own address may hold: fetch refuses them.
const STATS = new URL("stats", location.origin + location.pathname);

const OPERATIONS = { reads: ["get", "get_many"], writes: ["set", "set_many", "add", "store"] };

// The columns of the table: a title, the text of a cell, and the value to sort by.
const COLUMNS = [
  ["Cache", (c) => c.name, (c) => c.name],
  ["Hits", (c) => whole(c.hits), (c) => c.hits],
  ["Stale", (c) => whole(c.stale), (c) => c.stale],
  ["Misses", (c) => whole(c.misses), (c) => c.misses],
  ["Hit rate", (c) => percent(c.hit_rate), (c) => c.hit_rate],
  ["Cost of a hit", (c) => time(c.hit_seconds), (c) => c.hit_seconds],
  ["Cost of a miss", (c) => time(c.load_seconds), (c) => c.load_seconds],
  ["Time saved", (c) => time(c.saved_seconds), (c) => c.saved_seconds],
  ["Bypasses", (c) => reasons(c.bypasses), (c) => sum(Object.values(c.bypasses))],
];

const byId = (id) => document.getElementById(id);
const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);

const creator = (namespace) => (name, attributes = {}, ...children) => {
  const made = document.createElementNS(namespace, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
};
const html = creator(document.body.namespaceURI);
const svg = creator(byId("rate").namespaceURI);

// Writes changes only, so that the selection and the place of a screen reader stay.
function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const say = (id, text) => write(byId(id), text);

// ---- Numbers as text; an unknown number is a dash ----

const shown = (number, text) => (number === null || Number.isNaN(number) ? "–" : text(number));
const whole = (number) => shown(number, (n) => n.toLocaleString("en"));
const percent = (rate) => shown(rate, (r) => `${(100 * r).toFixed(1)} %`);
const reasons = (counts) => Object.entries(counts).map(([why, n]) => `${why} ${whole(n)}`).join(", ") || "none";

function time(seconds) {
  const units = [[3600, "h"], [60, "min"], [1, "s"], [1e-3, "ms"], [0, "µs"]];
  return shown(seconds, (s) => {
    const [size, unit] = units.find(([least]) => s >= least);
    return `${Number((s / (size || 1e-6)).toPrecision(3))} ${unit}`;
  });
}

// ---- The history ----

let stats = null; // the last answer
let counters = null; // its counters by name
let history = []; // the increase of each counter, step by step
const opened = {}; // the increase of each counter since the page was opened

function count({ caches, operations, evictions, errors, corrupt }) {
  const found = { evictions, errors, corrupt, hits: 0, asked: 0 };
  for (const [kind, names] of Object.entries(OPERATIONS)) {
    const used = names.map((name) => operations[name] ?? { count: 0, seconds: 0 });
    found[kind] = sum(used.map((operation) => operation.count));
    found[`${kind} seconds`] = sum(used.map((operation) => operation.seconds));
  }
  for (const { name, hits, stale, misses, bypasses } of caches) {
    found[`hits ${name}`] = hits + stale;
    found[`asked ${name}`] = hits + stale + misses;
    // Only GET and HEAD are meant to be cached.
    found[`bypasses ${name}`] = sum(Object.values(bypasses)) - (bypasses.method ?? 0);
    found.hits += hits + stale;
    found.asked += hits + stale + misses;
  }
  return found;
}

function remember(answer) {
  const before = counters ?? count(answer);
  stats = answer;
  counters = count(answer);
  const step = { at: Date.now() };
  for (const [name, now] of Object.entries(counters)) {
    // A new counter began at 0, and one that fell has begun anew, with its server. Null is unknown.
    const then = name in before ? before[name] ?? now : 0;
    step[name] = now < then ? now : now - then;
    opened[name] = (opened[name] ?? 0) + step[name];
  }
  history.push(step);
  if (history.length > MOST) history = history.filter((_, i) => i % 2 === 0);
}

// ---- The charts ----

// Draws lines of values; null is a gap. `ticks` are the values at the y axis with their texts, and
// `place` maps a value to its height, from 0 at the bottom to 1 at the top.
function draw(chart, lines, ticks, place) {
  const { width, height } = chart.getBoundingClientRect(); // in pixels, so that text keeps its size
  const [left, top, right, bottom] = [56, 8, width - 8, height - 24];
  const [start, end] = [history[0].at, history.at(-1).at];
  const x = (at) => left + ((right - left) * (at - start)) / Math.max(1, end - start);
  const y = (value) => bottom - (bottom - top) * place(value);
  const label = (x, y, anchor, text) => svg("text", { x, y, "text-anchor": anchor }, text);
  const clock = (at) => new Date(at).toLocaleTimeString();
  const parts = ticks.flatMap(([value, text]) => [
    svg("path", { class: "grid", d: `M${left},${y(value)}H${right}` }),
    label(left - 8, y(value) + 4, "end", text),
  ]);
  parts.push(label(left, height - 6, "start", clock(start)));
  parts.push(label((left + right) / 2, height - 6, "middle", "time"));
  parts.push(label(right, height - 6, "end", clock(end)));
  lines.forEach((values, index) => {
    const dashed = index ? " dashed" : "";
    const known = (i) => (values[i] ?? null) !== null;
    let d = "";
    values.forEach((value, i) => {
      if (!known(i)) return;
      const [cx, cy] = [x(history[i].at).toFixed(1), y(value).toFixed(1)];
      d += `${known(i - 1) ? "L" : "M"}${cx},${cy}`;
      // A value between two gaps is a dot.
      if (!known(i - 1) && !known(i + 1)) parts.push(svg("circle", { class: `dot${dashed}`, cx, cy, r: 3 }));
    });
    parts.push(svg("path", { class: `line${dashed}`, d }));
  });
  chart.querySelector("g").replaceChildren(...parts);
}

function drawCharts() {
  if (!stats) return;
  const ratio = (part, of) => history.map((step) => (step[of] ? step[part] / step[of] : null));
  const last = (values) => values.findLast((value) => value !== null) ?? null;

  const rates = ratio("hits", "asked");
  draw(byId("rate"), [rates], [[0, "0 %"], [0.5, "50 %"], [1, "100 %"]], (rate) => rate);
  const overall = percent(opened.hits / opened.asked);
  say("rate-now", opened.asked ? `last ${percent(last(rates))}, overall ${overall}` : "no look-ups yet");

  const [reads, writes] = ["reads", "writes"].map((kind) => ratio(`${kind} seconds`, kind));
  // One look-up in 32 is timed: the last time stands for the look-ups until the next one.
  reads.forEach((value, i) => { if (i && value === null && history[i].asked) reads[i] = reads[i - 1]; });
  const exponents = [...reads, ...writes].filter((s) => s > 0).map(Math.log10);
  const [low, high] = [Math.floor(Math.min(-4, ...exponents)), Math.ceil(Math.max(-3, ...exponents))];
  const powers = Array.from({ length: high - low + 1 }, (_, i) => 10 ** (low + i));
  const place = (s) => Math.max(0, (Math.log10(s) - low) / (high - low));
  draw(byId("latency"), [reads, writes], powers.map((s) => [s, time(s)]), place);
  say("read-now", `look-up, last ${time(last(reads))}`);
  say("write-now", `storing, last ${time(last(writes))}`);
}

// ---- The warnings: when, a title, an explanation, and causes or remedies ----

const warnings = () => [
  [stats.breaker_open, "The breaker is open",
    "The cache's backend fails, and at least one process of the app does not use it. Its look-ups are misses and " +
      "nothing is stored; the app serves, but slower. The backend is tried again every second. Usual causes:",
    "the server is down or unreachable",
    "the settings have a wrong address or password",
    "the timeout in the settings is too short for the network"],
  [opened.errors && !stats.breaker_open, "Operations of the backend have failed since the page was opened",
    "The log of the app names the errors. Usual causes:",
    "the backend was restarted, or unreachable for a moment",
    "the backend is full and refuses to store",
    "a value cannot be pickled"],
  [opened.evictions, "Entries have been evicted since the page was opened",
    "There was no room to keep them until they expired. Usual remedies:",
    "raise the limit of entries, or of the memory that the cache's server may use",
    "shorten the timeouts of entries that are rarely used",
    "store less: fewer query parameters in the keys, smaller values"],
  [opened.corrupt, "Stored values were corrupt since the page was opened",
    "They did not verify or could not be read, and were computed again. Usual causes:",
    "they were stored with another secret key",
    "a deploy changed the classes of stored values",
    "another program writes under the same keys"],
  ...stats.caches.flatMap(warningsOf),
].filter(([holds]) => holds);

function warningsOf({ name, hit_seconds: hit, load_seconds: load }) {
  // Since the page was opened, once there were enough look-ups.
  const counts = opened[`asked ${name}`] >= ENOUGH ? opened : counters;
  const [hits, asked, bypasses] = ["hits", "asked", "bypasses"].map((kind) => counts[`${kind} ${name}`]);
  const poor = asked >= ENOUGH && hits / asked < POOR && !stats.breaker_open;
  // Only one hit in 32 is timed, and the first is slow.
  const slow = counters[`hits ${name}`] >= 10 * ENOUGH && hit !== null && load !== null && hit >= load;
  return [
    [poor, `The hit rate of ${name} is poor`,
      "Most of its look-ups are misses. Usual causes:",
      "its timeout is shorter than the time between two requests for the same entry",
      "its keys are too fine: name the query parameters that matter with query=(...)",
      "its answers are not stored: see the reasons under Bypasses. A function that reads the request needs that as an argument",
      "its entries are evicted, or invalidated too often",
      "the app has just started, or the breaker was open"],
    [bypasses >= ENOUGH && bypasses > asked, `Most calls bypass ${name}`,
      "They are neither served from the cache nor stored. The reasons are under Bypasses:",
      "reads ..., authorization: the answer depends on the visitor; Cache-Status says how to change that",
      "unless: a condition in the code"],
    [slow, `${name} saves no time`,
      "A hit costs as much as a miss, or more. Usual causes:",
      "its values are cheap to compute and need no cache",
      "the backend is slow, or far away"],
  ];
}

// Adds new warnings and removes old ones. The others stay, so that they are not announced again.
function showWarnings() {
  const region = byId("notices");
  const found = warnings();
  for (const notice of region.querySelectorAll("article")) {
    if (!found.some(([, title]) => title === notice.dataset.title)) notice.remove();
  }
  found.forEach(([, title, text, ...causes], i) => {
    if (region.children[i].dataset.title === title) return;
    const list = html("ul", {}, ...causes.map((cause) => html("li", {}, cause)));
    const content = [html("h2", {}, `Warning: ${title}`), html("p", {}, text), list];
    region.insertBefore(html("article", { "data-title": title }, ...content), region.children[i]);
  });
  byId("fine").hidden = found.length > 0; // the last child, always there
}

// ---- The totals and the table ----

function showTotals() {
  const saved = stats.caches.map((c) => c.saved_seconds).filter((s) => s !== null);
  const totals = [
    ["Breaker", stats.breaker_open ? "open" : "closed"],
    ["Hit rate", percent(counters.hits / counters.asked)],
    ["Time saved", time(saved.length ? sum(saved) : null)],
    ["Entries", whole(stats.size)],
    ["Stored", whole(stats.puts)],
    ["Evicted", whole(stats.evictions)],
    ["Errors", whole(stats.errors)],
    ["Corrupt", whole(stats.corrupt)],
  ];
  totals.forEach(([title, value], i) => {
    const list = byId("totals");
    if (!list.children[i]) list.append(html("div", {}, html("dt", {}, title), html("dd")));
    write(list.children[i].lastChild, value);
  });
}

let sortedBy = 0; // the index of a column
let descending = false;

function showTable() {
  const value = COLUMNS[sortedBy][2];
  const order = (a, b) => (a === b ? 0 : a === null || a < b ? -1 : 1);
  const caches = stats.caches.toSorted((a, b) => order(value(a), value(b)) * (descending ? -1 : 1));
  document.querySelectorAll("thead th").forEach((th, i) => {
    th.ariaSort = i !== sortedBy ? null : descending ? "descending" : "ascending";
  });
  const body = document.querySelector("tbody");
  while (body.rows.length > caches.length) body.deleteRow(-1);
  caches.forEach((cache, i) => {
    const row = body.rows[i] ?? body.insertRow();
    COLUMNS.forEach(([, text], j) => {
      if (!row.cells[j]) row.append(j ? html("td") : html("th", { scope: "row" }));
      write(row.cells[j], text(cache));
    });
  });
  byId("empty").hidden = caches.length > 0;
}

COLUMNS.forEach(([title], index) => {
  const button = html("button", { type: "button" }, title);
  button.addEventListener("click", () => {
    // Names from the first, numbers from the largest; once more in reverse.
    descending = index === sortedBy ? !descending : index > 0;
    sortedBy = index;
    if (stats) showTable();
  });
  document.querySelector("thead tr").append(html("th", { scope: "col" }, button));
});

// ---- The requests ----

let paused = false;

async function ask() {
  const answer = await fetch(STATS, { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT) });
  const problems = {
    401: "the password is needed: load the page again",
    404: "monitoring is closed: it needs a password in the settings",
  };
  if (!answer.ok) throw new Error(problems[answer.status] ?? `the server answers with status ${answer.status}`);
  return answer.json();
}

async function update() {
  const answer = await ask().catch((error) => {
    const known = { TimeoutError: `no answer in ${TIMEOUT / 1000} seconds`, TypeError: "the server does not answer" };
    const why = known[error.name] ?? error.message;
    if (!paused) say("status", `Warning: no new numbers, ${why}. The numbers shown are old. Trying again.`);
  });
  if (!answer || paused) return;
  remember(answer);
  document.title = `Cache of ${stats.app}`;
  write(document.querySelector("h1"), document.title);
  say("status", `Updated every ${EVERY / 1000} seconds.`);
  say("last", `Last at ${new Date().toLocaleTimeString()}.`);
  showWarnings();
  showTotals();
  showTable();
  drawCharts();
}

byId("pause").addEventListener("click", () => {
  paused = !paused;
  say("pause", paused ? "Resume" : "Pause");
  say("status", paused ? "Paused." : "Asking for the numbers.");
});
addEventListener("resize", drawCharts);

for (;;) {
  if (!paused && !document.hidden) await update();
  await new Promise((resume) => setTimeout(resume, EVERY));
}
