// Facets in the text of a filter: `brand in ["Acme", "Bolt"]`, `price >= 10`, joined by "and" to what the
// user wrote. See retriever/store/filters.py for the language.

const COLUMN = "(?:`((?:[^`]|``)+)`|([A-Za-z_]\\w*))";
const NUMBER = "[+-]?(?:\\d+(?:\\.\\d*)?|\\.\\d+)(?:[eE][+-]?\\d+)?";
const VALUES = new RegExp(`^${COLUMN} in \\[((?:"(?:[^"\\\\]|\\\\.)*"(?:, )?)+)\\]$`, "s");
const BOUND = new RegExp(`^${COLUMN} (>=|<=) (${NUMBER})$`);
const KEYWORDS = ["and", "or", "not", "in", "true", "false"];

/**
 * Split a filter into facets, a map of columns to sets of values, ranges, a map of columns to
 * { low, high } as they are written ("" where there is none), and the rest of it.
 */
export function readFilter(text) {
  const facets = new Map();
  const ranges = new Map();
  const rest = [];
  for (const part of splitAtAnd(text)) {
    const values = VALUES.exec(part);
    const bound = BOUND.exec(part);
    if (values && !facets.has(columnOf(values))) facets.set(columnOf(values), new Set(textsIn(values[3])));
    else if (bound && !ranges.get(columnOf(bound))?.[sideOf(bound)]) {
      const range = ranges.get(columnOf(bound)) ?? { low: "", high: "" };
      ranges.set(columnOf(bound), { ...range, [sideOf(bound)]: bound[4] });
    } else if (part) rest.push(part);
  }
  return { facets, ranges, rest: rest.join(" and ") };
}

/** The filter that says the same. */
export function writeFilter({ facets, ranges, rest }) {
  const parts = rest ? [rest] : [];
  for (const [column, values] of facets) {
    if (values.size) parts.push(`${named(column)} in [${[...values].map(quoted).join(", ")}]`);
  }
  for (const [column, { low, high }] of ranges) {
    if (low !== "") parts.push(`${named(column)} >= ${low}`);
    if (high !== "") parts.push(`${named(column)} <= ${high}`);
  }
  return parts.join(" and ");
}

const columnOf = (match) => match[1]?.replaceAll("``", "`") ?? match[2];
const sideOf = (match) => (match[3] === ">=" ? "low" : "high");
const quoted = (value) => `"${value.replace(/["\\]/g, "\\$&")}"`;
const textsIn = (list) => [...list.matchAll(/"((?:[^"\\]|\\.)*)"/gs)].map(([, text]) => text.replace(/\\(.)/gs, "$1"));

function named(column) {
  const plain = /^[A-Za-z_]\w*$/.test(column) && !KEYWORDS.includes(column.toLowerCase());
  return plain ? column : `\`${column.replaceAll("`", "``")}\``;
}

// At the top level alone: not in quotes, brackets or parentheses. A filter with a top-level "or" is one part.
function splitAtAnd(text) {
  const parts = [];
  let start = 0;
  let depth = 0;
  let quote = "";
  for (let at = 0; at < text.length; at += 1) {
    const letter = text[at];
    if (quote) {
      if (letter === "\\" && quote !== "`") at += 1;
      else if (letter === quote) quote = "";
    } else if ("\"'`".includes(letter)) quote = letter;
    else if ("([".includes(letter)) depth += 1;
    else if (")]".includes(letter)) depth -= 1;
    else if (!depth && text.startsWith(" or ", at)) return [`(${text.trim()})`];
    else if (!depth && text.startsWith(" and ", at)) {
      parts.push(text.slice(start, at).trim());
      start = at + 5;
    }
  }
  parts.push(text.slice(start).trim());
  return parts;
}
