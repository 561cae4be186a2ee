// The live page: asks for the numbers at `stats` again and again, and shows them.
//
// They count since the server started. What happened between two answers is their difference. These
// differences are the history, which is kept in the open page and nowhere else.

// How often to ask, in milliseconds. The page's address can say: /cache/?every=500
const EVERY = Math.max(100, Number(new URLSearchParams(location.search).get("every")) || 2000);
const GIVE_UP = 10_000; // milliseconds to wait for one answer
const MOST = 1200; // steps in the history, of which then every second one goes
const ENOUGH = 20; // fewer look-ups say nothing about a rate
const POOR = 0.5; // a lower hit rate is worth a warning

// Without a name and password that the page's own address may hold: fetch refuses those.
const STATS = new URL("stats", location.origin + location.pathname);

const READS = ["get", "get_many"];
const WRITES = ["set", "set_many", "add", "store"];

// Every column of the table: its title, what to show, and what to sort by.
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

// ---- Numbers as text; what is not known yet is a dash ----

const shown = (number, text) => (number === null || Number.isNaN(number) ? "–" : text(number));
const whole = (number) => shown(number, (n) => n.toLocaleString("en"));
const percent = (rate) => shown(rate, (r) => `${(100 * r).toFixed(1)} %`);
const reasons = (counts) => Object.entries(counts).map(([why, n]) => `${why} ${whole(n)}`).join(", ") || "none";

function time(seconds) {
  const units = [[3600, "h"], [60, "min"], [1, "s"], [1e-3, "ms"], [1e-6, "µs"]];
  return shown(seconds, (s) => {
    const [size, unit] = units.find(([least]) => s >= least) ?? [1e-6, "µs"];
    return `${Number((s / size).toPrecision(3))} ${unit}`;
  });
}

// ---- The history ----

let stats = null; // the last answer
let counters = null; // what is counted in it
let openedAt = 0;
let history = []; // what came to the counters, step by step
const opened = {}; // what came to them since the page was opened: the sum of all steps

function count({ caches, operations, evictions, errors, corrupt }) {
  const total = (names, what) => sum(names.map((name) => operations[name]?.[what] ?? 0));
  const found = { evictions, errors, corrupt };
  for (const [kind, names] of [["reads", READS], ["writes", WRITES]]) {
    found[kind] = total(names, "count");
    found[`${kind} seconds`] = total(names, "seconds");
  }
  for (const { name, hits, stale, misses, bypasses } of caches) {
    found[`hits ${name}`] = hits + stale;
    found[`asked ${name}`] = hits + stale + misses;
    // Another method than GET or HEAD is not meant to be cached.
    found[`bypasses ${name}`] = sum(Object.values(bypasses)) - (bypasses.method ?? 0);
  }
  found.hits = sum(caches.map((c) => found[`hits ${c.name}`]));
  found.asked = sum(caches.map((c) => found[`asked ${c.name}`]));
  return found;
}

function remember(answer) {
  const before = counters;
  stats = answer;
  counters = count(answer);
  openedAt ||= Date.now();
  if (!before) return;
  const step = { at: Date.now() };
  for (const [name, now] of Object.entries(counters)) {
    const then = name in before ? before[name] : 0;
    // A counter that fell has begun anew, with its server. Null was not known.
    const came = now === null || then === null ? 0 : now < then ? now : now - then;
    opened[name] = (opened[name] ?? 0) + came;
    step[name] = came;
  }
  history.push(step);
  if (history.length > MOST) history = history.filter((_, i) => i % 2 === 0);
}

// ---- The charts ----

function element(name, attributes, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

// Draws lines of values, null where there is none. `ticks` are the values at the y axis with their
// texts, `place` is where a value is between the bottom, 0, and the top, 1.
function draw(svg, lines, ticks, place) {
  const { width, height } = svg.getBoundingClientRect(); // in pixels, so that text keeps its size
  const [left, top, right, bottom] = [56, 8, width - 8, height - 24];
  const now = history.at(-1)?.at ?? openedAt;
  const x = (at) => left + ((right - left) * (at - openedAt)) / Math.max(1, now - openedAt);
  const y = (value) => bottom - (bottom - top) * place(value);
  const label = (x, y, anchor, text) => element("text", { x, y, "text-anchor": anchor }, text);
  const clock = (at) => new Date(at).toLocaleTimeString();
  const parts = ticks.flatMap(([value, text]) => [
    element("path", { class: "grid", d: `M${left},${y(value)}H${right}` }),
    label(left - 8, y(value) + 4, "end", text),
  ]);
  parts.push(label(left, height - 6, "start", clock(openedAt)));
  parts.push(label((left + right) / 2, height - 6, "middle", "time"));
  parts.push(label(right, height - 6, "end", clock(now)));
  lines.forEach((values, index) => {
    const dashed = index ? " dashed" : "";
    const known = (i) => (values[i] ?? null) !== null;
    let d = "";
    values.forEach((value, i) => {
      if (!known(i)) return;
      const [cx, cy] = [x(history[i].at).toFixed(1), y(value).toFixed(1)];
      d += `${known(i - 1) ? "L" : "M"}${cx},${cy}`;
      // Between two gaps there is no line, but a dot.
      if (!known(i - 1) && !known(i + 1)) parts.push(element("circle", { class: `dot${dashed}`, cx, cy, r: 3 }));
    });
    parts.push(element("path", { class: `line${dashed}`, d }));
  });
  svg.querySelector("g").replaceChildren(...parts);
}

function drawCharts() {
  if (!stats) return;
  const ratio = (part, of) => history.map((step) => (step[of] ? step[part] / step[of] : null));
  const last = (values) => values.findLast((value) => value !== null) ?? null;

  const rates = ratio("hits", "asked");
  draw(byId("rate"), [rates], [[0, "0 %"], [0.5, "50 %"], [1, "100 %"]], (rate) => rate);
  const all = percent(opened.hits / opened.asked);
  say("rate-now", opened.asked ? `last ${percent(last(rates))}, all in all ${all}` : "no look-ups yet");

  const [reads, writes] = ["reads", "writes"].map((kind) => ratio(`${kind} seconds`, kind));
  // One look-up in 32 is timed: until the next one is, the last one stands for those that are not.
  reads.forEach((value, i) => { if (i && value === null && history[i].asked) reads[i] = reads[i - 1]; });
  const exponents = [...reads, ...writes].filter((s) => s > 0).map((s) => Math.log10(s));
  const low = exponents.length ? Math.floor(Math.min(...exponents)) : -5;
  const high = exponents.length ? Math.max(Math.ceil(Math.max(...exponents)), low + 1) : -2;
  const powers = Array.from({ length: high - low + 1 }, (_, i) => 10 ** (low + i));
  const place = (s) => Math.max(0, (Math.log10(s) - low) / (high - low));
  draw(byId("latency"), [reads, writes], powers.map((s) => [s, time(s)]), place);
  say("read-now", `look-up, last ${time(last(reads))}`);
  say("write-now", `storing, last ${time(last(writes))}`);
}

// ---- What is wrong, and what usually causes that ----

function* warnings() {
  if (stats.breaker_open) {
    yield [
      "The breaker is open",
      "The cache's backend fails and is left alone, by one of the app's processes or more. There every look-up is " +
        "a miss, nothing is stored, and the app goes on serving, only slower. The backend is tried again every " +
        "second. What usually causes that:",
      "its server is down, or out of reach",
      "the settings have a wrong address or password for it",
      "its timeout in the settings is too short for the network between",
    ];
  } else if (opened.errors) {
    yield [
      "Operations of the backend have failed since the page was opened",
      "The log of the app says which, and why. What usually causes that:",
      "the backend was restarted, or out of reach for a moment",
      "it has no room and refuses to store",
      "a value cannot be pickled",
    ];
  }
  if (opened.evictions) {
    yield [
      "Entries have been evicted since the page was opened",
      "There was no room for them: they went before their time was over. What usually helps:",
      "raise the limit of entries, or of the memory that the cache's server may use",
      "shorten the timeouts of what is seldom asked for again",
      "store less: fewer query parameters in the keys, smaller values",
    ];
  }
  if (opened.corrupt) {
    yield [
      "Stored values were corrupt since the page was opened",
      "They did not verify or could not be read, and were computed again. What usually causes that:",
      "they were stored with another secret key",
      "a deploy changed the classes of stored values",
      "something else writes under the same keys",
    ];
  }
  for (const { name, hit_seconds: hit, load_seconds: load } of stats.caches) {
    // Since the page was opened, as soon as that says something.
    const counts = opened[`asked ${name}`] >= ENOUGH ? opened : counters;
    const [hits, asked, bypasses] = ["hits", "asked", "bypasses"].map((what) => counts[`${what} ${name}`]);
    if (asked >= ENOUGH && hits / asked < POOR && !stats.breaker_open) {
      yield [
        `The hit rate of ${name} is poor`,
        "Most of its look-ups find nothing. What usually causes that:",
        "its timeout is shorter than the time between two requests for the same",
        "its keys are too fine: name the query parameters that matter with query=(...), and no other counts",
        "its answers may not be stored, or its requests are private: see the reasons under Bypasses",
        "its entries are invalidated too often, or evicted",
        "the app has just started, or the breaker was open",
      ];
    }
    if (bypasses >= ENOUGH && bypasses > asked) {
      yield [
        `Most calls go past ${name}`,
        "They are neither served from the cache nor stored. Under Bypasses stands why:",
        "session, cookie, authorization: the request is private, and its answer may be for one user alone",
        "unless: the code says so, by a condition",
      ];
    }
    // Only one hit in 32 is timed, and the first is slow.
    if (counters[`hits ${name}`] >= 10 * ENOUGH && hit !== null && load !== null && hit >= load) {
      yield [
        `${name} saves no time`,
        "A hit costs as much as a miss, or more. What usually causes that:",
        "what it keeps is cheap to compute: it need not be cached",
        "the backend is slow, or far away",
      ];
    }
  }
}

// Adds what is new and removes what is over: what stays is not announced again.
function showWarnings() {
  const region = byId("notices");
  const found = [...warnings()];
  const titles = new Set(found.map(([title]) => title));
  for (const notice of region.querySelectorAll(".notice")) {
    if (!titles.has(notice.dataset.title)) notice.remove();
  }
  found.forEach(([title, text, ...causes], i) => {
    if (region.children[i].dataset.title === title) return;
    const notice = html("article", "");
    notice.className = "notice";
    notice.dataset.title = title;
    const list = html("ul", "");
    list.append(...causes.map((cause) => html("li", cause)));
    notice.append(html("h2", `Warning: ${title}`), html("p", text), list);
    region.insertBefore(notice, region.children[i]);
  });
  byId("fine").hidden = found.length > 0; // the last child, always there
}

// ---- The totals and the table ----

// Only what changes is written, so that nobody who is reading is disturbed.
function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const say = (id, text) => write(byId(id), text);

function html(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

function showTotals() {
  const saved = stats.caches.map((c) => c.saved_seconds).filter((s) => s !== null);
  const totals = {
    Breaker: stats.breaker_open ? "open" : "closed",
    "Hit rate": percent(counters.hits / counters.asked),
    "Time saved": time(saved.length ? sum(saved) : null),
    Entries: whole(stats.size),
    Stored: whole(stats.puts),
    Evicted: whole(stats.evictions),
    Errors: whole(stats.errors),
    Corrupt: whole(stats.corrupt),
  };
  const list = byId("totals");
  Object.entries(totals).forEach(([title, value], i) => {
    if (!list.children[i]) {
      list.append(html("div", ""));
      list.children[i].append(html("dt", title), html("dd", ""));
    }
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
    if (i === sortedBy) th.setAttribute("aria-sort", descending ? "descending" : "ascending");
    else th.removeAttribute("aria-sort");
  });
  const body = document.querySelector("tbody");
  while (body.rows.length > caches.length) body.deleteRow(-1);
  caches.forEach((cache, i) => {
    const row = body.rows[i] ?? body.insertRow();
    COLUMNS.forEach(([, text], j) => {
      if (!row.cells[j]) row.append(html(j ? "td" : "th", ""));
      if (!j) row.cells[j].scope = "row";
      write(row.cells[j], text(cache));
    });
  });
  byId("empty").hidden = caches.length > 0;
}

COLUMNS.forEach(([title], index) => {
  const th = html("th", "");
  th.scope = "col";
  const button = html("button", title);
  button.type = "button";
  button.addEventListener("click", () => {
    // Names from the first, numbers from the largest; once more turns it around.
    descending = index === sortedBy ? !descending : index > 0;
    sortedBy = index;
    if (stats) showTable();
  });
  th.append(button);
  document.querySelector("thead tr").append(th);
});

// ---- Asking ----

let paused = false;

function why(error) {
  if (error.name === "TimeoutError") return `no answer in ${GIVE_UP / 1000} seconds`;
  if (error instanceof TypeError) return "the server does not answer";
  return error.message;
}

async function ask() {
  const answer = await fetch(STATS, { cache: "no-store", signal: AbortSignal.timeout(GIVE_UP) });
  if (answer.status === 401) throw new Error("the password is needed: load the page again");
  if (answer.status === 404) throw new Error("monitoring is closed: it needs a password in the settings");
  if (!answer.ok) throw new Error(`the server answers with status ${answer.status}`);
  return answer.json();
}

async function update() {
  let answer;
  try {
    answer = await ask();
  } catch (error) {
    if (!paused) say("status", `Warning: no new numbers, ${why(error)}. What is shown is old. Trying again.`);
    return;
  }
  if (paused) return; // meanwhile
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
