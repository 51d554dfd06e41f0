"use strict";
// Draws GET /v1/status every two seconds. All text goes in as text nodes, never as markup.
const EVERY_MS = 2000;
const narrow = matchMedia("(max-width: 46rem)");
const $ = (id) => document.getElementById(id);
let key = sessionStorage.getItem("stopper-key") || "";
let switchOn = false;
let seen = null;

function node(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  made.append(...children.filter((child) => child !== null && child !== undefined).map((child) =>
    child instanceof Node ? child : document.createTextNode(String(child))));
  return made;
}

function drawn(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  made.append(...children);
  return made;
}

const number = (value, digits = 0) => value === null || value === undefined ? "–"
  : (Math.abs(value) < 0.5 * 10 ** -digits ? 0 : value).toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const short = (value) => value === null || value === undefined ? "–"
  : Math.abs(value) >= 1e5 || (value !== 0 && Math.abs(value) < 1e-3) ? value.toExponential(2)
  : number(value, 3);
const percent = (value, digits = 1) => value === null || value === undefined ? "–" : `${number(100 * value, digits)} %`;
const clock = (text) => text ? new Date(text).toLocaleTimeString("en", { hour12: false }) : "–";
const day = (text) => text ? new Date(text).toISOString().slice(0, 16).replace("T", " ") + " UTC" : "never";
const words = (name) => name.replaceAll("_", " ");

async function ask(path, body) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const response = await fetch(path, {
    headers, cache: "no-store", method: body === undefined ? "GET" : "POST",
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) {
    const error = new Error(answer.detail || answer.title || `HTTP ${response.status}`);
    error.status = response.status;
    throw error;
  }
  return answer;
}

function tile(title, figure, text) {
  return node("section", { class: "tile card" }, node("h2", {}, title), node("b", {}, figure), node("p", {}, text));
}

function notice(kind, title, text, ...more) {
  return node("div", { class: `card notice ${kind}` }, node("h2", {}, title), node("p", {}, text), ...more);
}

function fact(term, value) {
  return [node("dt", {}, term), node("dd", {}, value)];
}

// A horizontal scale with a bar from low to high, a dot, and a mark.
function gauge(label, { low, high, at, mark, markText, top, text }) {
  const width = narrow.matches ? 320 : 520, left = 6, right = width - 6, y = 34;
  const x = (value) => left + (right - left) * Math.min(Math.max(value / top, 0), 1);
  const parts = [
    drawn("rect", { x: left, y: y - 6, width: right - left, height: 12, rx: 6, fill: "var(--soft)" }),
    drawn("rect", { x: left, y: y - 6, width: Math.max(x(mark) - left, 0), height: 12, rx: 6, fill: "var(--ok)", opacity: 0.25 }),
  ];
  if (low !== null && high !== null) {
    parts.push(drawn("rect", { x: x(low), y: y - 4, width: Math.max(x(high) - x(low), 2), height: 8, rx: 4, fill: "var(--ours)", opacity: 0.55 }));
  }
  if (at !== null) parts.push(drawn("circle", { cx: x(at), cy: y, r: 6, fill: at > mark ? "var(--bad)" : "var(--ours)" }));
  const anchor = x(mark) > width * 0.6 ? "end" : "start";
  parts.push(
    drawn("line", { x1: x(mark), x2: x(mark), y1: y - 14, y2: y + 14, stroke: "var(--ink)", "stroke-width": 2 }),
    drawn("text", { x: x(mark) + (anchor === "end" ? -6 : 6), y: 14, "text-anchor": anchor }, markText),
  );
  const svg = drawn("svg", { viewBox: `0 0 ${width} 54`, role: "img", "aria-label": `${label}: ${text}` }, ...parts);
  return node("div", {}, svg, node("p", { class: "small muted" }, text));
}

// Shares per bin of calibration (outline) and of today (bars); bins are of equal width on the page.
function histogram(edges, before, now, threshold) {
  const width = narrow.matches ? 320 : 520, height = 150, left = 6, base = 118, right = width - 6;
  const share = (counts) => {
    const total = counts.reduce((sum, count) => sum + count, 0);
    return counts.map((count) => total ? count / total : 0);
  };
  const old = share(before), fresh = share(now), bins = before.length;
  const top = Math.max(...old, ...fresh, 1e-9), step = (right - left) / bins;
  const y = (value) => base - (base - 22) * value / top;
  const parts = [];
  for (let bin = 0; bin < bins; bin += 1) {
    const x = left + bin * step;
    parts.push(drawn("rect", { x: x + 2, y: y(fresh[bin]), width: step - 4, height: base - y(fresh[bin]), fill: "var(--ours)", opacity: 0.75 }));
    parts.push(drawn("path", { d: `M${x} ${y(old[bin])}H${x + step}`, stroke: "var(--ink)", "stroke-width": 2, fill: "none" }));
  }
  edges.forEach((edge, index) => {
    if (bins > 8 && index % (narrow.matches ? 3 : 2)) return;
    parts.push(drawn("text", { x: left + (index + 1) * step, y: base + 16, "text-anchor": "middle", class: "faint" }, number(edge, 1)));
  });
  parts.push(drawn("line", { x1: left, x2: right, y1: base, y2: base, stroke: "var(--line)" }));
  if (threshold !== null && Number.isFinite(threshold)) {
    let bin = edges.findIndex((edge) => threshold < edge);
    if (bin < 0) bin = edges.length;
    const low = bin > 0 ? edges[bin - 1] : threshold, high = bin < edges.length ? edges[bin] : threshold;
    const x = left + step * (bin + (high > low ? (threshold - low) / (high - low) : 0.5));
    const anchor = x > width * 0.6 ? "end" : "start";
    parts.push(drawn("line", { x1: x, x2: x, y1: 4, y2: base, stroke: "var(--bad)", "stroke-width": 2, "stroke-dasharray": "5 4" }));
    parts.push(drawn("text", { x: x + (anchor === "end" ? -6 : 6), y: 14, "text-anchor": anchor }, `threshold ${number(threshold, 2)}`));
  }
  return drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Scores at cues: today against calibration" }, ...parts);
}

// Counters are named "front.DECISION.REASON" (requests) and "events.DECISION.REASON" (endpoint).
function totals(counters) {
  const sums = { front: {}, events: {}, causes: [] };
  for (const [name, amount] of Object.entries(counters)) {
    const [kind, decision, reason] = name.split(".");
    if ((kind !== "front" && kind !== "events") || reason === undefined) continue;
    sums[kind][decision] = (sums[kind][decision] || 0) + amount;
    const lost = kind === "front" ? ["not_applied", "failed_open", "unknown"].includes(decision)
      : ["refused", "store_unavailable", "artifact_changed", "score_not_finite", "too_few_calibration_traces"].includes(reason);
    if (lost) sums.causes.push([kind === "front" ? "requests" : "cues", reason, amount]);
  }
  const all = (group) => Object.values(group).reduce((sum, amount) => sum + amount, 0);
  return { ...sums, allRequests: all(sums.front), allEvents: all(sums.events) };
}

function state(status) {
  if (status.draining) return ["warn", "draining"];
  if (!status.store.reachable) return ["bad", "store away"];
  if (switchOn) return ["bad", "kill switch on"];
  if (status.artifacts.some((served) => served.alarm)) return ["bad", "alarm"];
  if (Object.keys(status.unready).length) return ["warn", "not ready"];
  if (!status.artifacts.length) return ["warn", "no artifact"];
  if (status.artifacts.every((served) => served.card.expired || served.card.stops === "never")) return ["warn", "stopping nothing"];
  return ["ok", "stopping"];
}

function notices(status) {
  const made = [];
  const held = status.control.kill_switch;
  if (held && held.on) made.push(notice("bad", "The kill switch is on: nothing is stopped", `${held.by}, ${day(held.time)}: ${held.why}`));
  for (const served of status.artifacts) {
    const { card } = served;
    if (served.alarm) {
      made.push(notice("bad", `Alarm: artifact ${card.version} stops nothing`, served.alarm.sentence,
        node("p", { class: "small muted" }, `Since ${day(served.alarm.time)}. Calibrate on today's traffic and load the new artifact. Re-arming begins the watch anew; each beginning may raise a false alarm of its own.`),
        rearmForm(card.version)));
    }
    if (card.expired) made.push(notice("warn", `Artifact ${card.version} has expired`, `Its promise ran out on ${day(card.expires)}. Calibrate again.`));
    if (card.stops === "never") made.push(notice("warn", `Artifact ${card.version} stops nothing`, `Too few calibration traces for alpha ${card.alpha}.`));
    if (served.fault) made.push(notice("warn", `Audits of ${card.version} are not counted`, served.fault));
    const warnings = served.standing ? served.standing.warnings : [];
    if (warnings.length) {
      made.push(notice("warn", "The traffic is no longer the one calibrated on", "Advice, no alarm: the promise may still hold, but it was made for other traffic.",
        node("ul", { class: "small" }, ...warnings.map((warned) => node("li", {}, `${warned.text} (noticed at audit ${number(warned.audits)})`)))));
    }
  }
  if (!status.store.reachable) made.push(notice("bad", "The store is away", "Nothing is stopped by the stop-decision endpoint until it is back; generations go on."));
  for (const [part, reason] of Object.entries(status.unready)) made.push(notice("warn", `Not ready: ${words(part)}`, reason));
  return made;
}

function rearmForm(version) {
  const why = node("input", { required: "", maxlength: "500", autocomplete: "off" });
  const error = node("p", { class: "small", role: "alert" });
  const form = node("form", { "data-rearm": version }, node("label", {}, "Why ", why), node("button", {}, "Re-arm"));
  form.addEventListener("submit", (event) => act(event, error, "/v1/alarm/re-arm", { artifact: version, why: why.value }));
  return node("div", {}, form, error);
}

function tiles(status) {
  const sums = totals(status.counters), made = [];
  const front = sums.allRequests > 0;
  const all = front ? sums.allRequests : sums.allEvents;
  const stopped = front ? sums.front.stopped || 0 : sums.events.stop || 0;
  made.push(tile(front ? "Requests" : "Cues decided", number(all), front && sums.allEvents ? `and ${number(sums.allEvents)} cues at the endpoint` : "all replicas"));
  made.push(tile("Stopped early", all ? percent(stopped / all) : "–", `${number(stopped)} of them`));
  made.push(tile("Tokens saved, estimate", number(status.counters["front.tokens_saved_estimate"] || 0), "thinking tokens, by the calibration traces"));
  const audits = status.artifacts.reduce((sum, served) => sum + (served.standing ? served.standing.audits : 0), 0);
  made.push(tile("Audits", number(audits), `${percent(status.auditing.share)} of requests${status.auditing.waiting ? `, ${number(status.auditing.waiting)} waiting` : ""}${status.auditing.lost ? `, ${number(status.auditing.lost)} lost` : ""}`));
  return made;
}

function risk(served) {
  const { card, standing } = served;
  if (!standing || !standing.audits) {
    return [node("p", { class: "muted small" }, "No audits yet. About as many requests as the share above says are let think to their end, to see what a stop would have cost.")];
  }
  const alpha = standing.alpha ?? card.alpha;
  return [
    node("h2", {}, "Risk, measured by audits"),
    gauge("Risk", {
      low: standing.low, high: standing.high, at: standing.share, mark: alpha, markText: `alpha ${percent(alpha)}`,
      top: Math.max(3 * alpha, Math.min(standing.high, 1) * 1.05, standing.share * 1.2),
      text: `${number(standing.bad)} of ${number(standing.audits)} audits would have been stopped badly: ${percent(standing.share)}, with 95 % bounds ${percent(standing.low)} to ${percent(standing.high)}; at most ${percent(alpha)} is promised.`,
    }),
    node("h2", {}, "Drift"),
    gauge("Drift", {
      low: null, high: null, at: standing.value, mark: standing.bar, markText: "alarm", top: Math.max(1.35 * standing.bar, standing.value * 1.1, 1e-9),
      text: `${standing.label}: ${short(standing.value)}; at ${short(standing.bar)} the alarm is raised. False alarms, ever: at most ${percent(standing.delta)}.`,
    }),
  ];
}

function artifact(served) {
  const { card, scores } = served;
  const threshold = { above_threshold: number(card.threshold, 3), at_first_cue: "stops at the first cue", never: "none: stops nothing" }[card.stops];
  const left = node("section", { class: "card half" },
    node("h2", {}, `Model ${card.model}`),
    node("blockquote", {}, card.promise),
    node("dl", {},
      ...fact("Artifact", node("code", {}, card.version)), ...fact("Folder", card.folder),
      ...fact("alpha", `${percent(card.alpha)} of requests`), ...fact("Threshold", threshold),
      ...fact("Calibrated by", `${card.method}, loss ${card.loss}${card.confidence === null ? "" : `, confidence ${percent(card.confidence, 0)}`}`),
      ...fact("Prompts", number(card.n)), ...fact("Created", day(card.created)), ...fact("Expires", day(card.expires))));
  const right = node("section", { class: "card half" }, ...risk(served));
  if (scores) {
    const fresh = scores.recent.reduce((sum, count) => sum + count, 0);
    right.append(node("h2", {}, "Scores at cues"),
      histogram(scores.edges, scores.calibration, scores.recent, card.threshold),
      node("p", { class: "small muted" }, fresh ? `Bars: the newest ${number(fresh)} scores. Lines: the calibration traces, in bins of equal share.` : "Lines: the calibration traces. No scores seen yet."));
  }
  return node("div", { class: "grid" }, left, right);
}

function decision(recent) {
  const good = recent.decision === "stopped" || recent.decision === "stop";
  return node("tr", {},
    node("td", {}, clock(recent.time)), node("td", { class: `text ${good ? "yes" : "no"}` }, words(recent.decision)),
    node("td", { class: "text" }, recent.reason ? words(recent.reason) : "–"), node("td", {}, number(recent.score, 2)),
    node("td", {}, number(recent.threshold, 2)), node("td", {}, recent.alpha === undefined || recent.alpha === null ? "–" : percent(recent.alpha)),
    node("td", { class: "text" }, recent.model || "–"), node("td", { class: "text" }, node("code", {}, recent.artifact || "–")));
}

function editing() {
  return $("notices").contains(document.activeElement) && document.activeElement.tagName === "INPUT";
}

function draw(status) {
  const held = status.control.kill_switch;
  switchOn = Boolean(held && held.on);
  const [kind, text] = state(status);
  $("state").className = `pill ${kind}`;
  $("state").textContent = text;
  $("about").textContent = `version ${status.version}, ${status.store.kind} store, up ${number(status.uptime_s / 3600, 1)} h`;
  if (!editing()) $("notices").replaceChildren(...notices(status));
  $("tiles").replaceChildren(...tiles(status));
  $("artifacts").replaceChildren(...status.artifacts.map(artifact));
  const newest = [...status.decisions].reverse().slice(0, 25);
  $("decisions").replaceChildren(...newest.map(decision));
  $("no-decisions").hidden = newest.length > 0;
  const causes = totals(status.counters).causes;
  $("causes").replaceChildren(...causes.map(([unit, cause, amount]) =>
    node("tr", {}, node("td", { class: "wide" }, words(cause)), node("td", {}, `${number(amount)} ${unit}`))));
  $("no-causes").hidden = causes.length > 0;
  $("switch-text").textContent = switchOn
    ? `On since ${day(held.time)}, by ${held.by}. All replicas let every request think to its end.`
    : "Off. Turned on, all replicas let every request think to its end, within a second or so.";
  $("switch").textContent = switchOn ? "Stop thinking again" : "Stop nothing anymore";
  $("switch").classList.toggle("danger", !switchOn);
  $("body").hidden = false;
}

async function act(event, error, path, body) {
  event.preventDefault();
  error.textContent = "";
  try {
    await ask(path, body);
    event.target.reset();
    document.activeElement.blur();
    await refresh();
  } catch (problem) {
    error.textContent = problem.message;
  }
}

async function refresh() {
  try {
    const status = await ask("/v1/status");
    seen = Date.now();
    $("keys").hidden = true;
    draw(status);
  } catch (problem) {
    if (problem.status === 401 || problem.status === 403) {
      $("keys").hidden = false;
      $("body").hidden = true;
      if (key) $("key-text").textContent = problem.message;
    }
    $("state").className = "pill bad";
    $("state").textContent = problem.status === 401 ? "key needed" : problem.status ? problem.message : "sidecar away";
  }
  $("age").textContent = seen ? `as of ${clock(new Date(seen).toISOString())}` : "";
}

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key = $("key").value.trim();
  sessionStorage.setItem("stopper-key", key);
  $("key").value = "";
  refresh();
});
$("switch-form").addEventListener("submit", (event) =>
  act(event, $("switch-error"), "/v1/kill-switch", { on: !switchOn, why: $("why").value }));

(async function run() {
  await refresh();
  setTimeout(run, EVERY_MS);
})();
