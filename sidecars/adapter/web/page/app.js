// The page: what is loaded, what of it is shown, and what the keys and buttons do.
import { compile, severity } from "./filter.js";
import { Histogram } from "./histogram.js";
import { List } from "./list.js";
import { Locked, files, follow, page } from "./source.js";

const FIRST = 1000, EARLIER = 5000, AROUND = 500;
const MOST = 100_000, MOST_HISTORY = 200_000, MOST_WAITING = 20_000;
const NEAR = 300; // lines to the end at which more is loaded

const at = id => document.getElementById(id);
const number = value => value.toLocaleString("en");

let entries = [], view = [];
let filter = compile("", "");
let stream = new AbortController();
let loadedFor = null; // the parameters that everything loaded was asked with
let before = "", earlier = false, after = "", later = false, history = false;
let all = false; // nothing that was asked for is left on the server
let loading = false, paused = false, waiting = [], overflow = false, unseen = 0;
let failure = "";

const list = new List(at("log"), at("rows"), { scrolled, selected, copy, filter: addField });
const histogram = new Histogram(at("histogram"), entry => { list.select(entry, false); list.reveal(entry, true); });

const file = () => at("file").value;
const level = () => document.querySelector("#levels input:checked").value;
const parameters = () => [...(file() ? [["file", file()]] : []), ...filter.sent];

function say(text) { at("said").textContent = text; }

function state(word, reason = "") {
  at("state").textContent = word;
  at("state").className = word;
  at("state").title = reason;
}

// ---- Loading

async function begin(position = "") {
  stream.abort();
  const mine = (stream = new AbortController());
  // What is loaded has no neighbours any more that could be loaded by themselves.
  earlier = later = loading = false;
  state("loading");
  const asked = parameters();
  try {
    const [old, fresh] = position ? await around(position, asked, mine.signal) : [await page([...asked, ["tail", FIRST]], mine.signal), null];
    if (mine.signal.aborted) return;
    loadedFor = JSON.stringify(asked);
    ({ before, earlier } = old);
    all = !earlier && !fresh?.later;
    entries = [...old.entries, ...(fresh?.entries ?? [])];
    after = fresh?.after ?? old.after;
    later = fresh?.later ?? false;
    history = later;
    waiting = []; overflow = false; unseen = 0; failure = "";
    const { selected: chosen, opened } = list;
    settle(!position);
    if (chosen && !position) again(chosen, opened);
    if (position && old.entries.length) {
      list.select(old.entries.at(-1), false);
      list.reveal(old.entries.at(-1), true);
    }
    state(paused ? "paused" : history ? "history" : "live");
    if (!history) listen(mine);
    fill();
  } catch (error) {
    failed(error, mine.signal);
  }
}

// A line that was chosen stays so, though it was loaded anew.
function again(chosen, opened) {
  const twin = view.findLast(entry => entry.at === chosen.at && entry.raw === chosen.raw);
  if (!twin) return;
  list.select(twin);
  if (opened) list.open(twin);
}

const around = (position, asked, signal) => Promise.all([
  page([...asked, ["before", position], ["limit", AROUND]], signal),
  page([...asked, ["after", position], ["limit", AROUND]], signal),
]);

function failed(error, signal) {
  if (signal.aborted) return;
  if (error instanceof Locked) return void at("login").showModal();
  failure = error.message;
  state("failed", error.message);
  notes();
  if (!error.status || error.status >= 500) setTimeout(() => { if (!signal.aborted) begin(); }, 2000);
}

function listen(mine) {
  follow(after, parameters(), mine.signal, (some, cursor) => { after = cursor; take(some); }, (word, reason) => {
    if (!paused) state(word, reason);
  }).catch(error => failed(error, mine.signal));
}

function take(some) {
  if (paused) {
    if (waiting.length + some.length > MOST_WAITING) overflow = true;
    else for (const entry of some) waiting.push(entry);
    return pausing();
  }
  const wanted = some.filter(filter.test);
  for (const entry of some) entries.push(entry);
  for (const entry of wanted) view.push(entry);
  if (!list.bottom) unseen += wanted.length;
  relook();
  list.grew();
  trim();
  soon();
}

// Lets go of the oldest lines, unless somebody reads them: then the page pauses.
function trim() {
  if (entries.length <= MOST) return;
  if (!list.bottom) {
    if (entries.length > MOST_HISTORY) pause(true);
    return;
  }
  const gone = new Set(entries.splice(0, entries.length - MOST + MOST / 10));
  const places = new Map(before === "-" ? [] : pieces(before));
  for (const entry of gone) for (const [key, piece] of pieces(entry.at)) places.set(key, piece);
  before = [...places.values()].join("");
  earlier = true;
  all = false;
  const kept = view.findIndex(entry => !gone.has(entry));
  const count = kept < 0 ? view.length : kept;
  view.splice(0, count);
  list.shrank(count);
}

// A cursor is a run of places of 36 letters, which begin with 8 that stand for the file.
const pieces = cursor => (cursor.match(/.{36}/g) ?? []).map(piece => [piece.slice(0, 8), piece]);

async function more(what) {
  if (loading) return;
  loading = true;
  notes();
  const { signal } = stream;
  try {
    const got = await page([...parameters(), what === "earlier" ? ["before", before] : ["after", after], ["limit", EARLIER]], signal);
    if (signal.aborted) return;
    if (what === "earlier") {
      ({ before, earlier } = got);
      all = !earlier && !history;
      entries = got.entries.concat(entries);
      view = got.entries.filter(filter.test).concat(view);
    } else {
      ({ after, later } = got);
      entries = entries.concat(got.entries);
      view = view.concat(got.entries.filter(filter.test));
    }
    relook();
    list.show(view, true);
    failure = "";
    if (what === "later" && !later) { history = false; listen(stream); }
  } catch (error) {
    if (signal.aborted) return;
    // What is loaded stays; to scroll is to try again.
    if (error.status === 410) earlier = false;
    else failure = error.message;
  } finally {
    if (!signal.aborted) loading = false;
    soon();
  }
  if (!signal.aborted && !failure) fill();
}

// Loads until the screen is full: of what is filtered, little may be found in what was looked through.
function fill() {
  if (earlier && view.length < list.seen && entries.length < MOST_HISTORY) more("earlier");
}

function scrolled() {
  if (list.bottom) unseen = 0;
  const { scrollTop, scrollHeight, clientHeight } = list.box;
  if (earlier && scrollTop < NEAR * 24 && entries.length < MOST_HISTORY) more("earlier");
  if (history && later && scrollHeight - scrollTop - clientHeight < NEAR * 24) more("later");
  buttons();
}

// ---- What is shown

function settle(toEnd) {
  view = entries.filter(filter.test);
  relook();
  list.show(view, !toEnd);
  histogram.show(view);
  notes();
}

// Days and files are shown where there are several.
function relook() {
  const first = view[0], last = view.at(-1);
  const look = {
    marks: filter.marks,
    day: Boolean(first) && new Date(first.time).toDateString() !== new Date(last.time).toDateString(),
    file: !file() && at("file").options.length > 2,
  };
  if (JSON.stringify(look) !== JSON.stringify(list.look)) {
    at("log").classList.toggle("days", look.day);
    list.restyle(look);
  }
}

let drawing = 0;
function soon() {
  buttons();
  drawing ||= setTimeout(() => { drawing = 0; histogram.show(view); notes(); }, 200);
}

function notes() {
  const { from, to, rate } = histogram.summary;
  at("from").textContent = from;
  at("to").textContent = to;
  at("rate").textContent = rate;
  at("count").textContent = `${number(view.length)} ${view.length === 1 ? "line" : "lines"}${filter.empty ? "" : earlier ? " so far" : " found"}`;
  at("note").textContent =
    loading ? (filter.empty ? "Loading earlier lines…" : "Searching earlier lines…")
    : failure ? failure
    : entries.length >= MOST_HISTORY ? `${number(MOST_HISTORY)} lines are loaded, and that is the most; filter to see earlier ones`
    : earlier ? "Earlier lines load when you scroll up" : entries.length ? "This is all there is" : "";
  at("empty").hidden = view.length > 0 || loading;
  at("empty").textContent = failure || (filter.empty ? "No lines yet. They appear here as they are written." : "No line is so.");
  buttons();
}

function buttons() {
  at("newest").hidden = !history && list.bottom;
  at("newest").lastElementChild.textContent = unseen ? `${number(unseen)} new` : "Newest";
}

function newest() {
  if (history) { list.select(null); begin(); }
  else list.toBottom();
  list.box.focus();
}

// ---- Pausing

function pausing() {
  const count = waiting.length ? ` (${number(waiting.length)}${overflow ? "+" : ""})` : "";
  at("pause").lastElementChild.textContent = paused ? `Resume${count}` : "Pause";
}

function pause(on) {
  if (paused === on) return;
  paused = on;
  at("pause").setAttribute("aria-pressed", on);
  at("pause").classList.toggle("pressed", on);
  say(on ? "Paused" : `Live; ${number(waiting.length)} lines waited`);
  if (on) state("paused");
  else if (overflow) begin();
  else {
    const held = waiting;
    waiting = [];
    state(history ? "history" : "live");
    if (held.length) take(held);
  }
  pausing();
}

// ---- Filtering

let typing = 0;
function refilter({ now = false } = {}) {
  filter = compile(at("filter").value, level());
  at("clear").hidden = !at("filter").value;
  remember();
  settle(true);
  clearTimeout(typing);
  // What is loaded is narrowed at once. The server is asked when the typing rests, for what is not loaded.
  if (JSON.stringify(parameters()) === loadedFor) return fill();
  if (all && loadedFor === JSON.stringify(file() ? [["file", file()]] : [])) return;
  typing = setTimeout(() => begin().then(() => say(`${number(view.length)} lines`)), now ? 0 : 350);
}

function addField(name, operator, value) {
  const quoted = /[\s"]|^$/.test(value) ? `"${value}"` : value;
  at("filter").value = `${at("filter").value.trim()} ${name}${operator}${quoted}`.trim();
  refilter({ now: true });
  list.box.focus();
}

// ---- Links

function link(entry) {
  const url = new URL(location.pathname, location.href);
  const known = { filter: at("filter").value, level: level(), file: file() };
  for (const [name, value] of Object.entries(known)) if (value) url.searchParams.set(name, value);
  if (entry?.at) { url.searchParams.set("file", entry.file); url.searchParams.set("at", entry.at); }
  return url;
}

let remembering = 0;
function remember() {
  clearTimeout(remembering);
  // Browsers allow some hundred of these in half a minute.
  remembering = setTimeout(() => window.history.replaceState(null, "", link(list.selected)), 200);
}

function selected(entry) {
  remember();
  if (entry && list.box !== document.activeElement && !at("search").contains(document.activeElement)) list.box.focus();
}

async function copy(what) {
  const entry = list.opened ?? list.selected;
  if (!entry) return;
  const text = { line: entry.raw, json: JSON.stringify(entry.record), link: String(link(entry)) }[what];
  await toClipboard(text);
  const words = { line: "The line is copied", json: "The JSON is copied", link: "A link to the line is copied" }[what];
  say(words);
  at("note").textContent = words;
}

// The clipboard proper is given to pages on https and localhost alone.
async function toClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.createElement("textarea");
    area.className = "unseen";
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    list.box.focus();
  }
}

// ---- Themes

function theme(change) {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  let chosen = localStorage.getItem("theme");
  if (change) {
    chosen = (chosen ?? (dark ? "dark" : "light")) === "dark" ? "light" : "dark";
    localStorage.setItem("theme", chosen);
  }
  if (chosen) document.documentElement.dataset.theme = chosen;
  histogram.paint();
}

// ---- Keys

function nextError(by) {
  let index = list.selected ? view.indexOf(list.selected) : by > 0 ? -1 : view.length;
  for (index += by; index >= 0 && index < view.length; index += by) {
    if (severity(view[index]) >= 5) {
      list.select(view[index], false);
      return list.reveal(view[index], true);
    }
  }
  say("No more errors");
}

const KEYS = {
  "/": () => { at("filter").focus(); at("filter").select(); },
  " ": () => pause(!paused),
  j: () => list.move(1), ArrowDown: () => list.move(1),
  k: () => list.move(-1), ArrowUp: () => list.move(-1),
  PageDown: () => list.move(list.seen), PageUp: () => list.move(-list.seen),
  Enter: () => list.selected && list.open(list.opened === list.selected ? null : list.selected),
  Escape: () => (list.opened ? list.open(null) : list.select(null)),
  c: () => copy("line"), C: () => copy("json"), l: () => copy("link"),
  g: () => list.toTop(), Home: () => list.toTop(), G: newest, End: newest,
  e: () => nextError(1), E: () => nextError(-1),
  t: () => theme(true), "?": () => at("help").showModal(),
};

addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const { target } = event;
  if (target === at("filter")) return inFilter(event);
  // A control keeps the keys it works by.
  const control = target.closest("button, select, input, a");
  if (control && [" ", "Enter", "ArrowDown", "ArrowUp", "Home", "End"].includes(event.key)) return;
  if (control?.matches("select") && event.key.length === 1) return;
  const does = KEYS[event.key];
  if (!does) return;
  event.preventDefault();
  does();
});

function inFilter(event) {
  if (event.key === "Escape" && at("filter").value) { at("filter").value = ""; refilter({ now: true }); }
  else if (["Escape", "Enter", "ArrowDown"].includes(event.key)) list.box.focus();
  else return;
  event.preventDefault();
}

at("filter").addEventListener("input", () => refilter());
at("search").addEventListener("submit", event => event.preventDefault());
at("clear").addEventListener("click", () => { at("filter").value = ""; refilter({ now: true }); at("filter").focus(); });
at("levels").addEventListener("change", () => refilter({ now: true }));
at("file").addEventListener("change", () => { remember(); begin(); });
at("pause").addEventListener("click", () => pause(!paused));
at("theme").addEventListener("click", () => theme(true));
at("ask").addEventListener("click", () => at("help").showModal());
at("newest").addEventListener("click", newest);
at("login").addEventListener("close", () => { sessionStorage.setItem("token", at("token").value); start(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => histogram.paint());

async function name() {
  const known = new Set([...at("file").options].map(option => option.value));
  for (const each of await files()) {
    if (known.has(each.name)) continue;
    const option = new Option(each.name.split("/").pop(), each.name);
    option.title = `${each.name} · ${each.format ?? "not there yet"}`;
    at("file").append(option);
  }
}

async function start() {
  const asked = new URLSearchParams(location.search);
  await name().catch(() => {});
  if (asked.get("file")) {
    if (![...at("file").options].some(option => option.value === asked.get("file"))) at("file").append(new Option(asked.get("file")));
    at("file").value = asked.get("file");
  }
  at("filter").value = asked.get("filter") ?? "";
  at("clear").hidden = !at("filter").value;
  const radio = [...document.querySelectorAll("#levels input")].find(each => each.value === asked.get("level"));
  if (radio) radio.checked = true;
  filter = compile(at("filter").value, level());
  begin(asked.get("at") ?? "");
}

theme(false);
start();
setInterval(() => name().then(relook).catch(() => {}), 30_000);
list.box.focus();
