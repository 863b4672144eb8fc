// What is typed into the filter, as tests of entries here, and as the parameters of /logs for what is not loaded yet.

export const LEVELS = ["trace", "debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];
const ALIASES = { warn: "warning", err: "error", fatal: "critical", crit: "critical" };
const TOKEN = /(-?)(?:"([^"]*)"?|([A-Za-z_@][\w.@-]*)(:|!=|>=|<=|=|>|<)("[^"]*"?|\S*)|(\S+))/g;

export const severity = entry => LEVELS.indexOf(entry.level);

const whole = entry => entry.low ??= entry.raw.toLowerCase();

export function field(record, name) {
  if (Object.hasOwn(record, name)) return record[name];
  let value = record;
  for (const part of name.split(".")) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, part)) return undefined;
    value = value[part];
  }
  return value;
}

export const shown = value =>
  value === undefined || value === null ? "" : typeof value === "object" ? JSON.stringify(value) : String(value);

function equals(name, value) {
  if (!value.includes("*")) return entry => shown(field(entry.record, name)) === value;
  // Piece by piece, for an expression with many stars can take for ever.
  const [first, ...rest] = value.split("*");
  const last = rest.pop();
  return entry => {
    const text = shown(field(entry.record, name));
    if (!text.startsWith(first) || !text.endsWith(last) || text.length < first.length + last.length) return false;
    let at = first.length;
    const end = text.length - last.length;
    return rest.every(piece => (at = text.indexOf(piece, at)) >= 0 && (at += piece.length) <= end);
  };
}

const COMPARE = {
  ">": (a, b) => a > b, ">=": (a, b) => a >= b, "<": (a, b) => a < b, "<=": (a, b) => a <= b,
};

function structured(name, operator, value) {
  if (name === "level" && operator !== "!=") {
    const least = LEVELS.indexOf(ALIASES[value.toLowerCase()] ?? value.toLowerCase());
    // A level that is being typed has no meaning yet.
    return least < 0 ? null : { test: entry => severity(entry) >= least, sent: ["level", LEVELS[least]] };
  }
  if (name === "file") {
    const part = value.toLowerCase();
    return { test: entry => entry.file.toLowerCase().includes(part) === (operator !== "!=") };
  }
  if (operator in COMPARE) {
    const bound = Number(value);
    if (value === "" || Number.isNaN(bound)) return null;
    const test = entry => {
      const number = field(entry.record, name);
      return typeof number === "number" && COMPARE[operator](number, bound);
    };
    return { test, sent: operator.length > 1 ? [`field.${name}${operator[0]}`, value] : [`field.${name}${operator}${value}`, ""] };
  }
  const test = equals(name, value);
  if (operator === "!=") return { test: entry => !test(entry), sent: [`field.${name}!`, value] };
  return { test, sent: [`field.${name}`, value] };
}

function word(text) {
  const low = text.toLowerCase();
  return { test: entry => whole(entry).includes(low), mark: low };
}

// Gives { test, marks, sent }: whether an entry is wanted, the words to be marked in it, and what /logs is asked.
export function compile(text, level) {
  const parts = level ? [structured("level", ":", level)] : [];
  for (const [all, minus, quoted, name, operator, value, plain] of text.matchAll(TOKEN)) {
    const part =
      quoted !== undefined ? (quoted ? word(quoted) : null)
      : name === undefined ? (plain === "-" ? null : word(plain))
      // A URL or a clock time is no field.
      : operator === ":" && name !== "level" && name !== "file" ? word(all.slice(minus.length))
      : structured(name, operator === ":" ? "=" : operator, value.replace(/^"|"$/g, ""));
    if (!part) continue;
    parts.push(minus ? { test: entry => !part.test(entry) } : part);
  }
  const tests = parts.map(part => part.test);
  const marks = parts.flatMap(part => part.mark ?? []);
  const sent = parts.flatMap(part => (part.sent ? [part.sent] : []));
  // The server takes one text: the longest leaves the least for this side.
  const longest = marks.toSorted((a, b) => b.length - a.length)[0];
  if (longest) sent.push(["q", longest]);
  // It takes one level, too.
  const levels = sent.filter(([name]) => name === "level").map(([, value]) => LEVELS.indexOf(value));
  const others = sent.filter(([name]) => name !== "level");
  if (levels.length) others.push(["level", LEVELS[Math.max(...levels)]]);
  return { test: entry => tests.every(test => test(entry)), marks, sent: others, empty: !tests.length };
}
