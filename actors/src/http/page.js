"use strict";
// The dashboard. Text from the node becomes text nodes only, never markup. It asks for what is in
// view, one request at a time, and leaves the node twenty times as long in peace as it took.

// ---- bounds ------------------------------------------------------------------------------------

const EVERY = { summary: 2000, workers: 2000, members: 5000, links: 1000, groups: 3000, threads: 3000, shards: 10000, requests: 3000 };
const PEACE = 20;            // pause, as a multiple of the time that the last answer took
const ANSWER_WITHIN = 8000;  // a request is given up after this
const ROWS = 50;             // rows of a table at once
const FEW = 20;              // rows of members and links at first
const RING = 12;             // members in the map
const CELLS = 2000;          // members in the grid of cells
const EVENTS_KEPT = 500;
const EVENTS_SHOWN = 150;
const FLUSH_EVERY = 300;     // events are shown in batches
const STUCK_AFTER = 1;       // seconds at work with one message
const FULL_AT = 0.8;         // of a queue

// ---- elements ----------------------------------------------------------------------------------

const $ = id => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

/** An element; children that are no nodes become text. */
function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes || {})) if (value != null && value !== false) node.setAttribute(key, value === true ? "" : value);
  node.append(...children.filter(child => child != null));
  return node;
}
function svg(tag, attributes, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}
/** A name, whatever is in it: in a direction of its own, and without invisible characters. */
const name = text => el("bdi", {}, visible(text));
function visible(text) {
  const shown = String(text).replace(/[\u0000-\u001f\u007f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g, hidden => `\\u{${hidden.codePointAt(0).toString(16)}}`);
  return shown === "" ? "(empty)" : shown;
}
const short = (text, most) => { const all = Array.from(visible(text)); return all.length > most ? all.slice(0, most - 1).join("") + "…" : all.join(""); };

/** Brings a list of elements up to date by key: kept ones stay where the focus is. */
function sync(parent, items, keyOf, make, fill) {
  const there = new Map();
  for (const node of Array.from(parent.children)) there.set(node.dataset.key, node);
  const seen = new Set();
  const isFocused = parent.contains(document.activeElement) && document.activeElement !== parent;
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    if (seen.has(key)) continue;
    seen.add(key);
    let node = there.get(key);
    if (node) {
      there.delete(key);
      if (node === place) place = place.nextElementSibling;
      else if (!isFocused) parent.insertBefore(node, place);
    } else {
      node = make(item);
      node.dataset.key = key;
      parent.insertBefore(node, place);
    }
    fill(node, item);
  }
  for (const node of there.values()) node.remove();
}
/** Replaces what is in an element if it differs. */
function put(node, ...children) {
  const fresh = el("div", {}, ...children.filter(child => child !== "" && child != null)).childNodes;
  const isSame = fresh.length === node.childNodes.length && Array.from(fresh).every((child, index) => child.isEqualNode(node.childNodes[index]));
  if (!isSame) node.replaceChildren(...fresh);
}
function row(columns) {
  return () => {
    const line = el("tr");
    columns.forEach((column, index) => line.append(index === 0 ? el("th", { scope: "row", class: column }) : el("td", { class: column })));
    return line;
  };
}
function bar(share, words) {
  const filled = el("i");
  filled.style.width = `${Math.min(100, Math.max(0, share * 100)).toFixed(1)}%`;
  return el("span", { class: `bar ${share >= 1 ? "bad" : share >= FULL_AT ? "warn" : ""}`, role: "img", "aria-label": words }, filled);
}

// ---- words -------------------------------------------------------------------------------------

function time(seconds) {
  if (seconds == null) return "–";
  if (seconds < 0.0005) return "0 ms";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(2)} s`;
  if (seconds < 120) return `${seconds.toFixed(1)} s`;
  const two = (large, one, small, other) => small ? `${large} ${one} ${small} ${other}` : `${large} ${one}`;
  if (seconds < 7200) return two(Math.floor(seconds / 60), "min", Math.floor(seconds % 60), "s");
  if (seconds < 172800) return two(Math.floor(seconds / 3600), "h", Math.floor(seconds / 60 % 60), "min");
  return two(Math.floor(seconds / 86400), "d", Math.floor(seconds / 3600 % 24), "h");
}
const count = number => number == null ? "–" : number.toLocaleString("en-GB");
const plural = (number, one, many) => `${count(number)} ${number === 1 ? one : many}`;
const words = key => String(key).replaceAll("_", " ");
const bytes = number => number < 10240 ? `${count(number)} B` : number < 10485760 ? `${count(Math.round(number / 1024))} KiB` : `${count(Math.round(number / 1048576))} MiB`;
const clock = at => new Date(at * 1000).toLocaleTimeString("en-GB");

function activity(during) {
  if (typeof during === "string") return during === "factory" ? "its factory" : words(during);
  const [kind, what] = Object.entries(during || {})[0] || ["something", ""];
  return kind === "message" ? what : `a ${kind} (${what})`;
}
function why(cause) {
  if (!cause) return "";
  switch (cause.kind) {
    case "panicked": return `panicked in ${activity(cause.during)}: ${cause.payload}`;
    case "stopped": return "stopped itself";
    case "start_failed": return `did not start: ${cause.reason}`;
    case "start_timed_out": return `was not up within ${time(cause.after)}`;
    case "await_stuck": return `waited for a future for ${time(cause.stuck_for)} with ${count(cause.queued)} in its queue`;
    case "blocked": return `blocked its thread in ${activity(cause.during)} for ${time(cause.busy_for)}`;
    case "spinning": return `spun in ${activity(cause.during)} for ${time(cause.busy_for)}, running ${time(cause.ran_for)} of it`;
    case "held_thread": return `held its thread in ${activity(cause.during)} for ${time(cause.busy_for)}`;
    case "reported_failed": return "said that it had failed";
    case "arbiter_dead": return "its thread has ended";
    case "displaced": return `its thread was held by ${cause.by}`;
    case "thread_silent": return `its thread was silent for ${time(cause.silent_for)}`;
    case "sibling": return `its sibling ${cause.sibling} failed`;
    case "exhausted": return `${cause.child} failed too often, the last time it ${cause.cause}`;
    case "shut_down": return "its significant children had ended";
    default: return words(cause.kind);
  }
}
/** The evidence of a verdict on a member, in words. */
function evidence(event) {
  const parts = [];
  if (event.silent_for > 0) parts.push(`silent for ${time(event.silent_for)}`);
  if (event.reported_by) parts.push(`reported by ${event.reported_by}`);
  const reports = new Map();
  for (const report of event.evidence || []) {
    const saw = (report.refused ? "connection refused" : report.silent_for == null ? "no answer" : `nothing received for ${time(report.silent_for)}`)
      + `${report.agrees ? "" : ", does not agree"}${report.health > 0 ? `, itself unwell (${report.health} of 8)` : ""}`;
    reports.set(saw, [...(reports.get(saw) || []), report.observer]);
  }
  for (const [saw, observers] of reports) parts.push(`${saw} (${observers.join(", ")})`);
  if (parts.length === 0) parts.push("its connection ended, or another member brought the news");
  return parts.join("; ");
}
const VERDICT = {
  died: "bad", suspected: "warn", cleared: "good", returned: "good", failed: "warn", gave_up: "bad", escalated: "bad", fenced: "warn", not_ready: "warn", ready: "good",
  thread_held: "warn", thread_returned: "good", abandoned: "bad", too_many_zombies: "bad", no_thread: "bad", starved: "warn", paused: "warn", isolated: "bad",
  declared_dead: "bad", superseded: "bad", zone_disrupted: "bad", zone_recovered: "good", quorum_lost: "bad", quorum_gained: "good", authority_lost: "bad", authority_reached: "good",
  session_ended: "bad", token_refused: "bad", replica_refused: "warn", hand_over_cut: "warn", shards_refused: "bad", refused_by: "bad", join_refused: "warn", no_monitor: "bad",
  other_cluster: "warn", clock_skewed: "warn", budget_exceeded: "warn", unresolved: "warn", left: "", joined: "", replaced: "", group_started: "", group_stopped: "warn", missed: "warn",
};
const shard = it => it ? `#${it.index}, epoch ${it.epoch}` : "";
/** An event in one sentence. */
function told(event) {
  switch (event.event) {
    case "suspected": return [event.node, ` is suspected: ${evidence(event)}`];
    case "died": return [event.node, ` was declared dead: ${evidence(event)}`];
    case "cleared": return [event.node, " is alive: the suspicion was wrong"];
    case "returned": return [event.node, " is back"];
    case "left": return [event.node, " has left"];
    case "joined": return [event.member.name, ` joined from ${event.member.address}`];
    case "failed": return [event.worker, ` ${why(event.cause)}; ${event.restart_in == null ? "it is not restarted" : event.restart_in > 0 ? `it restarts in ${time(event.restart_in)}` : "it restarts at once"}`];
    case "replaced": return [event.worker, ` is up again ${time(event.after)} after the failure (generation ${event.generation})`];
    case "gave_up": return [event.worker, ` was given up after ${plural(event.restarts, "restart", "restarts")}: it ${why(event.cause)}`];
    case "escalated": return [event.group, ` has failed: ${event.child} was restarted ${plural(event.restarts, "time", "times")}, and ${why(event.cause)}`];
    case "fenced": return [event.worker, ` was fenced: ${count(event.interrupted)} interrupted, ${count(event.dropped)} dropped`];
    case "not_ready": return [event.worker, ` is not ready: ${words(event.reason)}`];
    case "thread_held": return [event.by || "a worker", ` holds thread ${event.arbiter}: ${why(event.cause)}; ${plural(event.waiting.length, "worker waits", "workers wait")}`];
    case "thread_returned": return ["", `thread ${event.arbiter} is back after ${time(event.held_for)}`];
    case "paused": return ["", `this process was paused for ${time(event.late_by)}; the time is not counted as silence`];
    case "starved": return ["", `thread ${event.arbiter} waited for a CPU for ${time(event.waited_for)}`];
    case "shard_moved": return [`${event.group} ${shard(event.shard)}`, ` moved from ${event.from || "no owner"} to ${event.to || "no owner"}`];
    case "started": case "stopped": case "ready": return [event.worker, ` ${event.event === "ready" ? "is ready" : event.event} (generation ${event.generation})`];
    case "missed": return ["", `${plural(event.count, "event is", "events are")} no longer kept`];
    default: {
      const rest = Object.entries(event).filter(([key, value]) => key !== "event" && key !== "at" && (typeof value !== "object"));
      return ["", rest.map(([key, value]) => `${words(key)} ${value}`).join(", ")];
    }
  }
}

// ---- asking ------------------------------------------------------------------------------------

const TOKEN_KEY = `heartbeat-token ${location.pathname}`;
let token = null;
try { token = sessionStorage.getItem(TOKEN_KEY); } catch { /* storage is switched off */ }
let asking = null;

class Refused extends Error {}

/** Asks for a path of the door. A refused token is asked for anew, once for all callers. */
async function ask(path, options = {}) {
  for (;;) {
    const given = token;
    const headers = { ...options.headers };
    if (given) headers.Authorization = `Bearer ${given}`;
    const signal = options.signal ?? AbortSignal.timeout(ANSWER_WITHIN);
    const answer = await fetch(path, { signal, headers, cache: "no-store", credentials: "same-origin" });
    if (answer.status !== 401) return answer;
    if (token === given && !await askToken(given != null)) throw new Refused("no token was given");
  }
}
function askToken(wasWrong) {
  if (asking) return asking;
  const box = $("token"), field = $("token-value");
  $("token-why").textContent = wasWrong
    ? "The node did not take that token. Use http.token of its config."
    : "It is http.token of the node's config. This tab keeps it until it is closed.";
  say("waits for a token", "warn");
  asking = new Promise(done => {
    box.addEventListener("close", () => {
      // Characters that no header takes would fail each request.
      const value = field.value.trim().replace(/[^\x21-\x7e]/g, "");
      field.value = "";
      asking = null;
      token = value || token;
      try { if (value) sessionStorage.setItem(TOKEN_KEY, value); } catch { /* as above */ }
      if (!value) setPaused(true); // It was closed with Escape. "Go on" asks again.
      done(value !== "");
    }, { once: true });
  });
  box.showModal();
  field.focus();
  return asking;
}
async function json(path) {
  const answer = await ask(path);
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(body.error || `${path} answered ${answer.status}`);
  return body;
}
function say(text, mood) {
  const state = $("state");
  if (state.textContent !== text) state.textContent = text;
  state.className = mood || "";
}

// ---- when ---------------------------------------------------------------------------------------

const inView = new Set(["attention"]);
const tasks = {};
let isPaused = false;
let wake = () => {};

/** A path that is asked for again and again while one of its sections is in view. */
function task(key, sections, run) {
  tasks[key] = { key, sections, run, due: 0 };
}
const isWanted = it => it.sections.some(section => inView.has(section));
/** Asks soon for this again. */
function soon(key) { tasks[key].due = Math.min(tasks[key].due, Math.max(performance.now(), tasks[key].free || 0)); wake(); }
const isActive = () => !document.hidden && !isPaused;
const sleep = delay => new Promise(done => { const timer = setTimeout(done, delay); wake = () => { clearTimeout(timer); done(); }; });

async function poll() {
  for (;;) {
    const now = performance.now();
    const wanted = isActive() ? Object.values(tasks).filter(isWanted) : [];
    const next = wanted.sort((a, b) => a.due - b.due)[0];
    if (!next) { await sleep(3600000); continue; }
    if (next.due > now) { await sleep(next.due - now); continue; }
    let took = 0;
    try {
      const begun = performance.now();
      await next.run();
      took = performance.now() - begun;
      if (next.key === "summary") say("up to date", "good");
    } catch (error) {
      if (isActive()) say(error instanceof Refused ? error.message : "the node does not answer", "bad");
      took = 100;
    }
    const end = performance.now();
    next.free = end + Math.min(60000, took * PEACE);
    next.due = Math.max(end + EVERY[next.key], next.free);
  }
}

// ---- what needs attention -----------------------------------------------------------------------

let summary = null;
let announced = null;
let announcedAt = 0;

/** What needs attention: mood, kind, and a sentence, the worst first. */
function notes(it) {
  const found = [];
  const add = (mood, kind, key, ...text) => found.push({ mood, kind, key: `${kind} ${key}`, text });
  for (const check of it.live) if (!check.holds) add("bad", "not live", check.name, `${check.name}: ${check.reason}`);
  const { busiest, fullest, troubled } = it.workers;
  for (const worker of busiest.filter(worker => worker.busy_for >= STUCK_AFTER)) {
    const timeout = it.limits.workers_timeout;
    add(worker.busy_for >= timeout ? "bad" : "warn", "stuck", worker.name, name(worker.name), " is in ", el("span", { class: "code" }, visible(worker.doing)),
      ` for ${time(worker.busy_for)} (timeout ${time(timeout)}); ${worker.queued > 1 ? plural(worker.queued - 1, "message waits", "messages wait") : "no message waits"}`);
  }
  for (const verdict of it.verdicts) {
    add(verdict.event === "died" ? "bad" : "warn", verdict.event === "died" ? "dead" : "suspected", verdict.node, name(verdict.node), ` since ${clock(verdict.at)}: ${visible(evidence(verdict))}`);
  }
  for (const worker of troubled) {
    const kind = worker.state === "given_up" ? "given up" : worker.state === "waiting" ? "waits to restart" : "not ready";
    const reason = kind === "not ready" ? `: ${words(worker.not_ready)}` : ` after ${plural(worker.failures, "failure", "failures")}: it ${why(worker.last_cause)}`;
    add(worker.state === "given_up" ? "bad" : "warn", kind, worker.name, name(worker.name), visible(reason));
  }
  for (const worker of fullest.filter(worker => worker.queued / Math.max(1, worker.capacity) >= FULL_AT)) {
    add(worker.queued >= worker.capacity ? "bad" : "warn", "queue full", worker.name, name(worker.name), ` has ${count(worker.queued)} of ${count(worker.capacity)} messages`,
      worker.is_waiting ? ", and waits for a future" : "", worker.rejected ? `; ${plural(worker.rejected, "message was", "messages were")} refused so far` : "");
  }
  for (const group of it.groups.down) add("bad", "group down", group, name(group), " does not run");
  if (it.threads_held > 0) add(it.threads_held > it.threads_held_max ? "bad" : "warn", "threads held", "", `${plural(it.threads_held, "thread is", "threads are")} held past its timeout; ${count(it.threads_held_max)} may be`);
  for (const check of it.ready) if (!check.holds) add("warn", "not ready", `check ${check.name}`, `this node takes no requests: ${visible(check.reason)}`);
  if (it.requests && it.requests.held > 0) add("warn", "requests held", "", `${plural(it.requests.held, "request waits", "requests wait")} for an owner that can take them`);
  const order = { bad: 0, warn: 1 };
  return found.map((note, index) => ({ note, index })).sort((a, b) => order[a.note.mood] - order[b.note.mood] || a.index - b.index).map(it => it.note);
}

task("summary", ["attention", "workers", "members", "links", "groups", "events", "threads", "shards", "requests"], async () => {
  summary = await json("summary");
  $("node").textContent = visible(summary.node);
  $("cluster").textContent = summary.cluster == null ? "no cluster" : `in ${visible(summary.cluster)}`;
  $("about").textContent = `version ${summary.version}, up for ${time(summary.up_for)}`;
  document.title = `${short(summary.node, 40)} – heartbeat`;
  const all = notes(summary), shown = all.slice(0, 30);
  sync($("notes"), shown.length ? shown : [{ mood: "", kind: "", key: "nothing", text: [el("span", { class: "good" }, "Nothing needs attention.")] }],
    note => note.key, () => el("li"), (node, note) => {
      node.className = note.mood;
      put(node, note.kind ? el("span", { class: "kind" }, note.kind) : null, el("span", {}, ...note.text));
    });
  $("attention-count").textContent = all.length > shown.length ? `the first ${shown.length} of ${all.length}` : all.length ? plural(all.length, "matter", "matters") : "";
  announce(all);
  const { workers, members } = summary;
  const states = Object.entries(workers.states).map(([state, number]) => `${count(number)} ${words(state)}`).join(", ");
  const standing = Object.entries(members).filter(([, number]) => number > 0).map(([status, number]) => `${count(number)} ${status}`).join(", ");
  tiles([
    ["Workers", states || "none"],
    ["Messages in queues", `${count(workers.queued)} of ${count(workers.capacity)}`],
    ["Members", standing || "no cluster"],
    ["Groups", `${count(summary.groups.count)}${summary.groups.down.length ? `, ${summary.groups.down.length} down` : ""}`],
    ["Threads held", `${count(summary.threads_held)} of ${count(summary.threads_held_max)} allowed`],
    ["Requests", summary.requests ? `${count(summary.requests.held)} held, ${count(summary.requests.under_way)} under way, ${count(summary.requests.refused)} refused` : "no cluster"],
    ["This node", `${summary.live.every(check => check.holds) ? "live" : "not live"}, ${summary.ready.every(check => check.holds) ? "ready" : "not ready"}`],
  ]);
});
function tiles(pairs) {
  sync($("tiles"), pairs, pair => pair[0], pair => el("div", {}, el("dt", {}, pair[0]), el("dd")), (node, pair) => { put(node.lastElementChild, pair[1]); });
}
/** Tells a screen reader what is new, at most every five seconds. */
function announce(all) {
  const now = performance.now();
  if (announced && now - announcedAt < 5000) return;
  const fresh = announced ? all.filter(note => !announced.has(note.key)) : all;
  announced = new Set(all.map(note => note.key));
  if (fresh.length === 0) return;
  announcedAt = now;
  const text = note => `${note.kind}: ${note.text.map(part => part.textContent ?? part).join("")}`;
  $("announce").textContent = fresh.slice(0, 3).map(text).join(". ") + (fresh.length > 3 ? `. And ${fresh.length - 3} more.` : "");
}

// ---- workers ------------------------------------------------------------------------------------

let workersAfter = null;
let workersNext = null;

task("workers", ["workers"], async () => {
  const query = new URLSearchParams({ sort: $("workers-sort").value, limit: ROWS });
  for (const key of ["state", "prefix", "group"]) if ($(`workers-${key}`).value) query.set(key, $(`workers-${key}`).value);
  if (workersAfter != null && $("workers-sort").value === "name") query.set("after", workersAfter);
  const page = await json(`workers?${query}`);
  workersNext = page.next;
  $("workers-first").hidden = workersAfter == null;
  $("workers-next").hidden = workersNext == null;
  sync($("workers-rows"), page.workers, worker => worker.name, row(["name", "", "n", "", "n", "n", "n", ""]), (line, worker) => {
    const [who, state, queue, doing, handled, lost, failures, cause] = line.children;
    put(who, name(worker.name), worker.group ? el("span", { class: "quiet" }, ` in ${visible(worker.group)}`) : null, el("br"), el("span", { class: "quiet code" }, visible(worker.kind)));
    const mood = worker.state === "given_up" ? "bad" : worker.state === "waiting" || worker.not_ready ? "warn" : worker.state === "up" ? "good" : "quiet";
    put(state, el("span", { class: mood }, words(worker.state)), worker.not_ready ? `, not ready: ${words(worker.not_ready)}` : "");
    const full = worker.queued / Math.max(1, worker.capacity);
    put(queue, bar(full, `${Math.round(full * 100)} percent full`), ` ${count(worker.queued)} / ${count(worker.capacity)}`);
    put(doing, ...(worker.doing == null ? [worker.is_waiting ? "waits for a future" : el("span", { class: "quiet" }, "nothing")]
      : [el("span", { class: "code" }, visible(worker.doing)), " ", el("span", { class: worker.busy_for >= STUCK_AFTER ? "bad" : "" }, time(worker.busy_for))]));
    put(handled, count(worker.handled));
    put(lost, count(worker.interrupted + worker.dead + worker.rejected));
    put(failures, count(worker.failures));
    put(cause, visible(why(worker.last_cause)) === "(empty)" ? "" : visible(why(worker.last_cause)));
  });
  const empty = { fullness: "All queues are empty.", queued: "All queues are empty.", busy_for: "No worker is at work now.", failures: "No worker has failed.", trouble: "All workers serve." };
  $("workers-none").hidden = page.workers.length > 0;
  $("workers-none").textContent = $("workers-state").value || $("workers-prefix").value || $("workers-group").value ? "No such worker." : empty[$("workers-sort").value] || "There are no workers.";
  $("workers-count").textContent = summary ? `${plural(page.workers.length, "row", "rows")} of ${plural(summary.workers.count, "worker", "workers")}` : "";
});
function workersAnew() { workersAfter = null; tasks.workers.free = 0; soon("workers"); }
for (const key of ["sort", "state"]) $(`workers-${key}`).addEventListener("change", workersAnew);
let typed = 0;
for (const key of ["prefix", "group"]) $(`workers-${key}`).addEventListener("input", () => { clearTimeout(typed); typed = setTimeout(workersAnew, 250); });
$("workers-first").addEventListener("click", workersAnew);
$("workers-next").addEventListener("click", () => { workersAfter = workersNext; tasks.workers.free = 0; soon("workers"); });

// ---- members and links --------------------------------------------------------------------------

// The wire version in use, and the members that can use no higher one.
const wire = common => {
  if (common == null) return "wire version unknown";
  const names = common.held_back_by;
  const more = names.length > FEW ? ` and ${names.length - FEW} more` : "";
  return `wire version ${common.version}${names.length ? `, held back by ${names.slice(0, FEW).join(", ")}${more}` : ""}`;
};

let members = null;
let links = null;
let membersMost = FEW;
let linksMost = FEW;
let chosen = null;

const rankOf = { suspect: 0, dead: 1, alive: 2, left: 3 };
const moodOf = { alive: "", suspect: "warn", dead: "bad", left: "quiet" };

task("members", ["members"], async () => {
  const [fresh, seen] = [await json("members"), await json("links").catch(() => null)];
  members = fresh;
  if (seen) links = seen;
  showMembers();
});
function showMembers() {
  const wanted = $("members-filter").value.toLowerCase();
  const all = members.members.filter(member => member.name.toLowerCase().includes(wanted));
  all.sort((a, b) => rankOf[a.status] - rankOf[b.status] || (b.silent_for ?? -1) - (a.silent_for ?? -1) || (a.name < b.name ? -1 : 1));
  const shown = all.slice(0, membersMost);
  sync($("members-rows"), shown, member => member.name, row(["name", "", "", "n", ""]), (line, member) => {
    const [who, status, zone, silent, verdict] = line.children;
    put(who, name(member.name), member.name === members.node ? el("span", { class: "quiet" }, " (this node)") : null, member.watches_this_node ? el("span", { class: "quiet" }, " watches this node") : null);
    put(status, el("span", { class: moodOf[member.status] || "good" }, member.status));
    put(zone, member.zone ? visible(member.zone) : "");
    put(silent, member.silent_for == null ? "" : time(member.silent_for));
    put(verdict, member.verdict ? `${clock(member.verdict.at)}: ${visible(evidence(member.verdict))}` : "");
  });
  $("members-more").hidden = all.length <= shown.length;
  const text = members.cluster == null ? "no cluster" : `${plural(members.members.length, "member", "members")}, ${shown.length} in the table; local health ${members.health ?? "unknown"} (0 is well); ${wire(members.wire)}`;
  $("members-count").textContent = text;
  map();
  cells();
}
$("members-filter").addEventListener("input", () => { membersMost = FEW; if (members) showMembers(); });
$("members-more").addEventListener("click", () => { membersMost = Math.min(1000, membersMost + 100); if (members) showMembers(); });

/** The neighbourhood of this node: whom it watches, who watches it, and who of them watch each other. */
function map() {
  const byName = new Map(members.members.map(member => [member.name, member]));
  const watched = new Map((links ? links.links : []).map(link => [link.name, link]));
  const near = members.members.filter(member => member.name !== members.node && (watched.has(member.name) || member.watches_this_node || member.status === "suspect" || member.status === "dead"));
  near.sort((a, b) => rankOf[a.status] - rankOf[b.status] || (a.name < b.name ? -1 : 1));
  const ring = near.slice(0, RING);
  if (ring.length === 0) {
    $("map").replaceChildren(el("p", { class: "none" }, members.cluster == null ? "This node is in no cluster." : "This node watches no member, and no member watches it."));
    return;
  }
  // As wide as the window allows, and as high as its members need.
  const width = Math.max(290, Math.min(620, $("map").clientWidth || 520));
  const room = Math.min(140, width * .3), letters = Math.floor((room - 14) / 6.6);
  const turns = ring.map((_, index) => (index + .5) / ring.length * 2 * Math.PI - Math.PI / 2);
  const flat = ring.length > 8 ? 130 : ring.length > 2 ? 85 : 30;
  const lows = turns.map(turn => Math.sin(turn) * flat);
  const middle = [width / 2, 44 - Math.min(0, ...lows)], height = middle[1] + Math.max(0, ...lows) + 44;
  const at = new Map(ring.map((member, index) => [member.name, [middle[0] + (width / 2 - room) * Math.cos(turns[index]), middle[1] + lows[index]]]));
  const edge = (from, to, mood, bend) => {
    const [dx, dy] = [to[0] - from[0], to[1] - from[1]], length = Math.hypot(dx, dy) || 1;
    const [cx, cy] = [(from[0] + to[0]) / 2 - dy / length * bend, (from[1] + to[1]) / 2 + dx / length * bend];
    const end = [to[0] - dx / length * 12, to[1] - dy / length * 12];
    return svg("path", { class: `edge ${mood}`, d: `M${from[0].toFixed(1)} ${from[1].toFixed(1)} Q${cx.toFixed(1)} ${cy.toFixed(1)} ${end[0].toFixed(1)} ${end[1].toFixed(1)}`, "marker-end": "url(#tip)" });
  };
  const parts = [svg("defs", {}, svg("marker", { id: "tip", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 6, markerHeight: 6, orient: "auto" }, svg("path", { d: "M0 0L8 4L0 8z", fill: "context-stroke" })))];
  for (const member of ring) for (const observer of watched.get(member.name)?.observers || []) {
    if (at.has(observer)) parts.push(edge(at.get(observer), at.get(member.name), "among", 10));
  }
  for (const member of ring) {
    const [link, point] = [watched.get(member.name), at.get(member.name)];
    if (member.watches_this_node) parts.push(edge(point, middle, "in", 12));
    if (link) parts.push(edge(middle, point, moodOf[link.verdict] || "", 12));
  }
  parts.push(svg("circle", { class: "dot me", cx: middle[0], cy: middle[1], r: 9 }), label(middle[0], middle[1] + 24, "middle", "this node", ""));
  for (const member of ring) {
    const [x, y] = at.get(member.name), link = watched.get(member.name);
    parts.push(svg("circle", { class: `dot ${moodOf[member.status]}`, cx: x, cy: y, r: 7 }));
    const side = Math.abs(x - middle[0]) < 8 ? "middle" : x < middle[0] ? "end" : "start";
    const [tx, ty] = [x + (side === "start" ? 12 : side === "end" ? -12 : 0), side === "middle" ? (y < middle[1] ? y - 24 : y + 20) : y - 1];
    parts.push(label(tx, ty, side, short(member.name, letters), ""));
    const silence = link ? `silent ${time(link.silent_for)}` : "";
    parts.push(label(tx, ty + 14, side, member.status === "alive" ? silence || short("watches us", letters) : `${member.status}${link ? `, ${time(link.silent_for)}` : ""}`, "quiet"));
  }
  const words = ring.map(member => `${visible(member.name)}: ${member.status}${watched.has(member.name) ? `, watched by this node, silent for ${time(watched.get(member.name).silent_for)}` : ""}${member.watches_this_node ? ", watches this node" : ""}`);
  $("map").replaceChildren(svg("svg", { viewBox: `0 0 ${width} ${height.toFixed(0)}`, width, height: height.toFixed(0), role: "img", "aria-label": `Neighbourhood of this node. ${words.join(". ")}` }, ...parts),
    el("p", { class: "quiet" }, "Solid: this node watches. Dotted: watches this node. Pale: they watch each other.", near.length > ring.length ? ` ${near.length - ring.length} more neighbours are in the table.` : ""));
}
function label(x, y, anchor, text, mood) {
  const node = svg("text", { x, y, "text-anchor": anchor, class: mood });
  node.textContent = text;
  return node;
}
/** All members as one cell each, where there are many. */
function cells() {
  const all = members.members;
  $("cells-box").hidden = all.length <= RING;
  if (all.length <= RING) return;
  const box = $("cells"), most = Math.min(all.length, CELLS);
  while (box.childElementCount > most) box.lastElementChild.remove();
  while (box.childElementCount < most) box.append(el("i"));
  const numbers = {};
  all.forEach((member, index) => {
    numbers[member.status] = (numbers[member.status] || 0) + 1;
    if (index < most && box.children[index].className !== moodOf[member.status]) box.children[index].className = moodOf[member.status];
    if (index < most && box.children[index].title !== member.name) box.children[index].title = member.name;
  });
  $("cells-text").textContent = "All members: " + Object.entries(numbers).map(([status, number]) => `${count(number)} ${status}`).join(", ") + (all.length > most ? `; ${count(most)} are drawn` : "");
}

task("links", ["links"], async () => {
  links = await json("links");
  const all = links.links.slice().sort((a, b) => b.silent_for / Math.max(.001, b.suspected_after) - a.silent_for / Math.max(.001, a.suspected_after));
  if (!all.some(link => link.name === chosen)) chosen = null;
  const named = all.map(link => link.name).sort();
  const shown = all.slice(0, linksMost).sort((a, b) => a.name < b.name ? -1 : 1);
  chosen ??= all.find(link => link.verdict !== "alive")?.name ?? named[0] ?? null;
  sync($("links-rows"), shown, link => link.name, link => {
    const line = row(["name", "", "n", "n", "n", ""])();
    const button = el("button", { type: "button", class: "plain" }, name(link.name));
    button.addEventListener("click", () => { chosen = link.name; for (const other of $("links-rows").querySelectorAll("button")) other.setAttribute("aria-pressed", other === button); soon("links"); });
    line.firstElementChild.append(button);
    return line;
  }, (line, link) => {
    const [who, verdict, silent, suspected, dead, budget] = line.children;
    who.firstElementChild.setAttribute("aria-pressed", link.name === chosen);
    put(verdict, el("span", { class: moodOf[link.verdict] || "good" }, link.verdict));
    put(silent, time(link.silent_for));
    put(suspected, time(Math.min(link.suspected_after, link.dead_after)));
    put(dead, time(link.dead_after));
    const it = link.budget;
    put(budget, it ? el("span", { class: it.made > it.allowed + 2 ? "warn" : "" }, `${it.made.toFixed(1)} of ${it.allowed.toFixed(2)}${it.kept_at == null ? "" : `; only ${it.kept_at.toFixed(1)} an hour can be kept`}`) : "–");
  });
  $("links-more").hidden = all.length <= shown.length;
  $("links-none").hidden = all.length > 0;
  $("links-count").textContent = `${plural(all.length, "link", "links")}${all.length > shown.length ? `, the ${shown.length} that are silent for longest` : ""}; detector ${links.detector}`;
  if (chosen == null) { $("curve").replaceChildren(); return; }
  const one = await json(`links/${encodeURIComponent(chosen)}`).catch(() => null);
  if (one) curve(one.link, one.curve); else $("curve").replaceChildren();
});
$("links-more").addEventListener("click", () => { linksMost = Math.min(1000, linksMost + 100); tasks.links.free = 0; soon("links"); });
/** The tail that was learnt, the silences at which each verdict comes, and the silence now. */
function curve(link, points) {
  const width = Math.max(290, Math.min(620, $("curve").clientWidth || 560));
  const [left, right, top, bottom] = [54, width - 16, 8, 180];
  const longest = points[points.length - 1][0] || 1;
  const it = link.budget;
  const asked = it ? -Math.log10(Math.max(1e-12, it.allowed_per_hour * it.interval / 3600)) : null;
  const highest = Math.max(1, ...points.map(point => point[1]), asked ?? 0) * 1.08;
  const x = silence => left + Math.min(1, silence / longest) * (right - left);
  const y = phi => bottom - Math.min(1, phi / highest) * (bottom - top);
  const parts = [svg("path", { class: "axis", d: `M${left} ${top}V${bottom}H${right}` })];
  const step = Math.ceil(highest / 4);
  for (let phi = step; phi < highest; phi += step) parts.push(label(left - 6, y(phi) + 4, "end", phi <= 3 ? `1/${10 ** phi}` : `1/10${[...String(phi)].map(digit => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]).join("")}`, "quiet"));
  for (const part of width < 400 ? [0, .5, 1] : [0, .25, .5, .75, 1]) parts.push(label(x(longest * part), bottom + 16, part === 1 ? "end" : "middle", time(longest * part), "quiet"));
  const vertical = (silence, mood, text, line) => {
    const at = x(silence);
    parts.push(svg("path", { class: `mark ${mood}`, d: `M${at} ${top}V${bottom}` }));
    parts.push(label(at + (at > right - 90 ? -4 : 4), top + 10 + line * 14, at > right - 90 ? "end" : "start", text, mood ? "" : "quiet"));
  };
  vertical(link.expected_after, "", "expected", 0);
  if (link.suspected_after < link.dead_after) vertical(link.suspected_after, "warn", "suspected", 1);
  vertical(link.dead_after, "bad", "dead", 2);
  if (asked != null) {
    parts.push(svg("path", { class: "mark", d: `M${left} ${y(asked)}H${right}` }));
    parts.push(label(Math.min(right, x(link.dead_after) - 6), y(asked) - 4, "end", "as rare as the budget", "quiet"));
  }
  parts.push(svg("path", { class: "tail", d: points.map((point, index) => `${index ? "L" : "M"}${x(point[0]).toFixed(1)} ${y(point[1]).toFixed(1)}`).join("") }));
  const now = x(link.silent_for);
  parts.push(svg("path", { class: "now", d: `M${now} ${bottom - 24}V${bottom + 22}` }), label(now + (now > right - 90 ? -5 : 5), bottom + 32, now > right - 90 ? "end" : "start", `now ${time(link.silent_for)}`, ""));
  const text = `Link to ${visible(link.name)}: silent for ${time(link.silent_for)}, next heartbeat expected after ${time(link.expected_after)}, suspected after ${time(Math.min(link.suspected_after, link.dead_after))}, dead after ${time(link.dead_after)}.`;
  const learnt = it ? ` Learnt from ${plural(it.heartbeats, "heartbeat", "heartbeats")}: jitter ${time(it.jitter)}, margin ${time(it.margin)}, longest silence past the expected arrival ${time(it.longest)}, ${(it.loss * 100).toFixed(2)} % lost${it.is_lossy ? " (lossy)" : ""}. Its budget is ${it.allowed_per_hour} wrong ${it.allowed_per_hour === 1 ? "suspicion" : "suspicions"} an hour.` : "";
  $("curve").replaceChildren(svg("svg", { viewBox: `0 0 ${width} 218`, width, height: 218, role: "img", "aria-label": text }, ...parts),
    el("p", { class: "quiet" }, `The line: which share of heartbeats came after so long a silence. ${text}${learnt}`));
}

// ---- groups -------------------------------------------------------------------------------------

task("groups", ["groups"], async () => { tree($("tree"), [await json("groups")]); });
function tree(list, groups) {
  const most = 200;
  sync(list, groups.slice(0, most), group => group.name ?? "", group => {
    const show = el("button", { type: "button", class: "plain" }, group.name == null ? "root" : name(group.name));
    show.addEventListener("click", () => { $("workers-group").value = group.name ?? ""; $("workers-sort").value = "name"; workersAnew(); location.hash = "#workers"; });
    return el("li", {}, el("div", {}, show, el("span")), el("div", { class: "figures" }, el("span"), el("span")), el("ul"));
  }, (node, group) => {
    const [head, figures, below] = node.children;
    put(head.lastElementChild, group.is_running ? "" : el("span", { class: "bad" }, " does not run"), group.strategy ? el("span", { class: "quiet" }, ` ${words(group.strategy)}, restarts counted ${group.counting === "each" ? "for each child" : "together"}`) : "");
    const states = Object.entries(group.all_workers).map(([state, number]) => `${count(number)} ${words(state)}`).join(", ");
    put(figures.firstElementChild, states || "no workers");
    const share = group.intensity == null ? 0 : group.restarts / Math.max(1, group.intensity);
    put(figures.lastElementChild, ...(group.restarts == null ? ["restarts unknown: the control thread does not answer"] : [
      group.intensity == null ? "" : bar(share, `${group.restarts} of ${group.intensity} restarts`),
      ` ${count(group.restarts)} of ${group.intensity == null ? "any number of" : count(group.intensity)} restarts in ${time(group.period)}`,
      group.nearest ? ` (${visible(group.nearest)})` : "", group.escalations ? el("span", { class: "bad" }, `, escalated ${plural(group.escalations, "time", "times")}`) : ""]));
    tree(below, group.groups);
  });
  if (groups.length > most && !list.querySelector(":scope > [data-key=' more']")) list.append(el("li", { class: "quiet", "data-key": " more" }, `and ${count(groups.length - most)} more groups`));
}

// ---- threads, shards, requests ------------------------------------------------------------------

task("threads", ["threads"], async () => {
  const it = await json("threads");
  $("threads-count").textContent = `${plural(it.threads.length, "thread", "threads")}, ${count(it.held)} held, ${count(it.held_max)} may be`;
  const worst = { held: 0, abandoned: 1, running: 2 };
  const shown = it.threads.sort((a, b) => worst[a.state] - worst[b.state] || a.number - b.number).slice(0, 2 * ROWS);
  sync($("threads-rows"), shown, thread => thread.number, row(["", "", "", "n", "n", "n", "n", "n"]), (line, thread) => {
    const values = [`${thread.number}`, el("span", { class: thread.state === "running" ? "good" : "bad" }, thread.state), thread.seen ?? "–", el("span", { class: thread.silent_for >= STUCK_AFTER ? "warn" : "" }, time(thread.silent_for)), time(thread.timeout), count(thread.workers), time(thread.ran), time(thread.waited)];
    values.forEach((value, index) => put(line.children[index], value));
  });
});
task("shards", ["shards"], async () => {
  const { node, groups } = await json("shards");
  $("shards-none").hidden = groups.length > 0;
  sync($("shards-groups"), groups.slice(0, 20), group => group.name, group => el("div", {}, el("h3", {}, name(group.name)), el("table", {}, el("thead", {}, el("tr", {},
    el("th", { scope: "col" }, "Owner"), el("th", { scope: "col", class: "n" }, "Shards"), el("th", { scope: "col" }, "Share"), el("th", { scope: "col" }, "Which"))), el("tbody"))), (box, group) => {
    const owners = new Map();
    for (const it of group.shards) { const own = owners.get(it.owner) || []; own.push(it.index); owners.set(it.owner, own); }
    const lines = [...owners].map(([owner, indexes]) => ({ owner, indexes }));
    const none = group.count - group.shards.length;
    lines.sort((a, b) => b.indexes.length - a.indexes.length || (a.owner < b.owner ? -1 : 1));
    if (none > 0) lines.unshift({ owner: null, indexes: [], none });
    sync(box.querySelector("tbody"), lines.slice(0, ROWS), it => it.owner ?? " none", row(["name", "n", "", "code"]), (line, it) => {
      const number = it.none ?? it.indexes.length;
      put(line.children[0], it.owner == null ? el("span", { class: "bad" }, "no owner") : name(it.owner), it.owner === node ? el("span", { class: "quiet" }, " (this node)") : null);
      put(line.children[1], count(number));
      const filled = el("i");
      filled.style.width = `${(number / Math.max(1, group.count) * 100).toFixed(1)}%`;
      put(line.children[2], el("span", { class: "bar", role: "img", "aria-label": `${Math.round(number / Math.max(1, group.count) * 100)} percent` }, filled));
      put(line.children[3], it.indexes.slice(0, 24).join(" ") + (it.indexes.length > 24 ? " …" : ""));
    });
  });
});
task("requests", ["requests"], async () => {
  const it = await json("requests");
  $("requests-box").hidden = it.requests == null;
  if (it.requests == null) { put($("requests-text"), "This node sends no requests: it is in no cluster."); return; }
  const sums = it.requests, refused = Object.entries(sums.refused_by).map(([reason, number]) => `${count(number)} ${words(reason)}`).join(", ");
  put($("requests-text"), `${count(sums.sent)} sent: ${count(sums.handled)} handled, ${count(sums.refused)} refused${refused ? ` (${refused})` : ""}, ${count(sums.interrupted)} interrupted, ${count(sums.timed_out)} timed out, `
    + `${count(sums.under_way)} under way, ${count(sums.held)} of ${count(it.held_max)} held (${bytes(sums.held_bytes)})${sums.oldest_held_for == null ? "" : `, the oldest for ${time(sums.oldest_held_for)}`}. ${count(sums.served)} are with workers of this node.`);
  const shown = it.peers.sort((a, b) => b.under_way + b.held - a.under_way - a.held || (a.name < b.name ? -1 : 1)).slice(0, ROWS);
  sync($("requests-rows"), shown, peer => peer.name, row(["name", "", "", "n", "n", "n"]), (line, peer) => {
    put(line.children[0], name(peer.name));
    put(line.children[1], el("span", { class: moodOf[peer.status] || "good" }, peer.status));
    put(line.children[2], peer.is_connected ? "open" : peer.connect_failures ? `failed ${plural(peer.connect_failures, "time", "times")} in a row` : "none yet");
    put(line.children[3], bar(peer.under_way / Math.max(1, it.window), `${peer.under_way} of ${it.window}`), ` ${count(peer.under_way)} / ${count(it.window)}`);
    put(line.children[4], `${bytes(peer.under_way_bytes)} / ${bytes(it.window_bytes)}`);
    put(line.children[5], count(peer.held));
  });
});

// ---- events -------------------------------------------------------------------------------------

let events = [];
let raw = [];
let skipped = 0;
let lastId = null;
let flushTimer = 0;

/** Follows the events while the page is shown, and goes on behind the last one afterwards. */
async function follow() {
  let pause = 1000;
  for (;;) {
    while (!isActive()) await new Promise(done => resumed.push(done));
    const end = new AbortController();
    streaming = end;
    try {
      const answer = await ask("events", { headers: lastId ? { "Last-Event-ID": lastId } : {}, signal: end.signal });
      if (!answer.ok) throw new Refused(`events: ${answer.status}`);
      const reader = answer.body.getReader(), text = new TextDecoder();
      let buffer = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        pause = 1000;
        buffer += text.decode(value, { stream: true });
        const blocks = buffer.split("\n\n");
        buffer = blocks.pop();
        if (buffer.length > 1 << 20) buffer = "";
        for (const block of blocks) take(block);
      }
    } catch { /* the node has gone, or the page was hidden: again, later */ }
    if (isActive()) { await new Promise(done => setTimeout(done, pause)); pause = Math.min(15000, pause * 2); }
  }
}
let streaming = null;
let resumed = [];
/** Keeps a piece of the stream as text: in a storm most are never looked at. */
function take(block) {
  const id = /^id: (.*)$/m.exec(block);
  if (id) lastId = id[1];
  if (!block.includes("data: ")) return;
  raw.push(block);
  if (raw.length > EVENTS_KEPT) skipped += raw.splice(0, raw.length - EVENTS_KEPT).length;
  flushTimer ||= setTimeout(flush, FLUSH_EVERY);
}
function flush() {
  flushTimer = 0;
  let isNews = false;
  for (const block of raw) {
    try {
      const event = JSON.parse(block.split("\n").filter(line => line.startsWith("data: ")).map(line => line.slice(6)).join("\n"));
      event.key = /^id: (.*)$/m.exec(block)?.[1] ?? `missed ${performance.now()} ${events.length}`;
      event.at ??= Date.now() / 1000;
      events.push(event);
      isNews ||= event.event in VERDICT;
    } catch { /* not an event: left out */ }
  }
  raw = [];
  if (events.length > EVENTS_KEPT) { skipped += events.length - EVENTS_KEPT; events = events.slice(-EVENTS_KEPT); }
  if (inView.has("events")) showEvents();
  if (isNews) for (const key of ["summary", "members", "links", "groups"]) soon(key);
}
function showEvents() {
  const isAll = $("events-filter").value === "all";
  const shown = [];
  for (let index = events.length - 1; index >= 0 && shown.length < EVENTS_SHOWN; index--) {
    if (isAll || VERDICT[events[index].event]) shown.push(events[index]);
  }
  sync($("events-rows"), shown, event => event.key, event => {
    const [who, text] = told(event);
    return el("li", {}, el("time", { class: "quiet", datetime: new Date(event.at * 1000).toISOString() }, clock(event.at)),
      el("span", { class: VERDICT[event.event] || "quiet" }, words(event.event)), el("span", {}, who ? el("b", {}, name(who)) : null, visible(text) === "(empty)" ? "" : visible(text)));
  }, () => {});
  $("events-none").hidden = shown.length > 0;
  $("events-rows").hidden = shown.length === 0;
  $("events-count").textContent = `${shown.length} shown${skipped ? `, ${count(skipped)} older ones no longer kept here` : ""}`;
}
$("events-filter").addEventListener("change", showEvents);

// ---- beginning ----------------------------------------------------------------------------------

function activityChanged() {
  if (isActive()) { resumed.splice(0).forEach(done => done()); for (const it of Object.values(tasks)) it.due = 0; }
  else { streaming?.abort(); say(isPaused ? "paused" : "hidden", "quiet"); }
  wake();
}
document.addEventListener("visibilitychange", activityChanged);
let resizing = 0;
addEventListener("resize", () => { clearTimeout(resizing); resizing = setTimeout(() => { if (members) showMembers(); soon("links"); }, 150); });
function setPaused(isIt) {
  isPaused = isIt;
  $("pause").textContent = isPaused ? "Go on" : "Pause";
  activityChanged();
}
$("pause").addEventListener("click", () => setPaused(!isPaused));
const watcher = new IntersectionObserver(entries => {
  for (const entry of entries) {
    if (entry.isIntersecting) { inView.add(entry.target.id); if (entry.target.id === "events") showEvents(); }
    else inView.delete(entry.target.id);
  }
  wake();
}, { rootMargin: "100px" });
for (const section of document.querySelectorAll("main section")) watcher.observe(section);
$("token-form").addEventListener("submit", () => { /* method=dialog closes it */ });
poll();
follow();
