// How an entry is drawn. Whatever a log says is hostile: it enters the page as text only, never as markup.
import { field, severity, shown } from "./filter.js";

const KNOWN = new Set(["time", "level", "message", "file", "pod", "namespace", "node"]);
const OF_ACCESS = new Set([...KNOWN, "method", "path", "status", "duration"]);
const MOST_FIELDS = 12;
const LONGEST = 2000;

export function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== "") element.textContent = text;
  return element;
}

const two = number => String(number).padStart(2, "0");

export function clock(time, { day = false, fraction = true } = {}) {
  const date = new Date(time);
  const hours = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  const text = fraction ? `${hours}.${String(date.getMilliseconds()).padStart(3, "0")}` : hours;
  return day ? `${two(date.getMonth() + 1)}-${two(date.getDate())} ${text}` : text;
}

export function tone(entry) {
  const rank = severity(entry);
  if (rank >= 6) return "critical";
  return ["quiet", "quiet", "info", "info", "warning", "error"][rank] ?? "none";
}

function marked(text, marks) {
  const parent = make("span", "words");
  const low = text.toLowerCase();
  // Small letters can be more than the large ones were, in some scripts: then nothing is marked.
  const found = low.length === text.length ? marks : [];
  let at = 0;
  while (at < text.length) {
    let best = -1, length = 0;
    for (const mark of found) {
      const place = low.indexOf(mark, at);
      if (place >= 0 && (best < 0 || place < best)) [best, length] = [place, mark.length];
    }
    if (best < 0) break;
    parent.append(text.slice(at, best), make("mark", "", text.slice(best, best + length)));
    at = best + length;
  }
  parent.append(text.slice(at));
  return parent;
}

const brief = text => (text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text).replace(/\s+/g, " ");

function seconds(value) {
  if (value < 1) return `${(value * 1000).toFixed(value < 0.01 ? 1 : 0)} ms`;
  return `${value.toFixed(2)} s`;
}

function access(record) {
  const { status, method, path, duration } = record;
  const parts = [];
  if (status !== undefined) parts.push(make("b", `status s${String(status)[0]}`, shown(status)));
  if (method !== undefined) parts.push(make("b", "method", shown(method)));
  return { parts, path: brief(shown(path)), duration: typeof duration === "number" ? seconds(duration) : "" };
}

function text(entry, marks) {
  const cell = make("span", "text");
  cell.role = "gridcell";
  const { record } = entry;
  const message = typeof record.message === "string" ? record.message : null;
  if (message !== null) {
    cell.append(marked(brief(message), marks), ...extras(record, KNOWN));
  } else if (record.path !== undefined && record.method !== undefined) {
    const web = access(record);
    cell.append(...web.parts, marked(web.path, marks));
    if (web.duration) cell.append(make("i", "took", web.duration));
    cell.append(...extras(record, OF_ACCESS));
  } else {
    cell.append(marked(brief(entry.raw), marks));
  }
  return cell;
}

function extras(record, known) {
  const names = Object.keys(record).filter(name => !known.has(name)).slice(0, MOST_FIELDS);
  return names.map(name => {
    const pair = make("i", "pair");
    pair.append(make("i", "name", name.slice(0, 60)), "=", brief(shown(record[name]).slice(0, 120)));
    return pair;
  });
}

export function row(entry, { marks, day, file }) {
  const element = make("div", `row ${tone(entry)}`);
  element.role = "row";
  const time = make("span", "time", clock(entry.time, { day }));
  const level = make("span", "level", entry.level ?? "");
  time.role = level.role = "gridcell";
  element.append(time, level);
  if (file) {
    const name = make("span", "file", entry.file.split("/").pop());
    name.role = "gridcell";
    name.title = entry.file;
    element.append(name);
  }
  element.append(text(entry, marks));
  return element;
}

function action(name, label, run) {
  const button = make("button", name, label);
  button.type = "button";
  button.addEventListener("click", event => { event.stopPropagation(); run(); });
  return button;
}

function pairs(record, prefix = "", found = []) {
  for (const [name, value] of Object.entries(record)) {
    const nested = typeof value === "object" && value !== null && !Array.isArray(value);
    if (nested && found.length < 200 && prefix.split(".").length < 5) pairs(value, `${prefix}${name}.`, found);
    else found.push([prefix + name, value]);
  }
  return found;
}

// The fields of an entry; `does` has what its buttons do: copy(what), filter(name, operator, value), close().
export function detail(entry, does) {
  const element = make("section", `detail ${tone(entry)}`);
  element.setAttribute("aria-label", "Fields of this line");
  const tools = make("div", "tools");
  tools.append(
    action("", "Copy line", () => does.copy("line")),
    action("", "Copy JSON", () => does.copy("json")),
    action("", "Copy link", () => does.copy("link")),
    make("span", "grow"),
    make("span", "where", `${new Date(entry.time).toISOString()} · ${entry.file}`),
    action("close", "Close", () => does.close()),
  );
  const list = make("dl");
  for (const [name, value] of pairs(entry.record)) {
    const given = make("dd", typeof value === "number" ? "number" : "", shown(value));
    const simple = value !== null && typeof value !== "object" && shown(value).length < 200 && !shown(value).includes('"');
    const choose = make("span", "choose");
    if (simple && field(entry.record, name) === value) {
      const only = action("", "=", () => does.filter(name, "=", shown(value)));
      const not = action("", "≠", () => does.filter(name, "!=", shown(value)));
      only.title = only.ariaLabel = `Only lines where ${name} is so`;
      not.title = not.ariaLabel = `Only lines where ${name} is not so`;
      choose.append(only, not);
    }
    list.append(make("dt", "", name), choose, given);
  }
  const raw = make("pre", "raw", entry.raw);
  raw.tabIndex = 0;
  element.append(tools, list, raw);
  return element;
}
