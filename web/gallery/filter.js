// Facets in the text of a filter: `brand in ["Acme", "Bolt"]`, `price >= 10`, joined by "and" to what the
// user wrote. See retriever/store/filters.py for the language, and retriever/filter_text.py for the quotes of
// typesetters and the punctuation of Chinese, which a filter may hold too.

const WORD = "[\\p{L}\\p{N}_]";
const TEXT = `(?:"(?:[^"\\\\]|\\\\.)*"|'(?:[^'\\\\]|\\\\.)*')`;
const COLUMN = `(?:\`((?:[^\`]|\`\`)+)\`|((?!\\p{N})${WORD}+)(?!${WORD}))`;
const NUMBER = "[+-]?(?:\\d+(?:\\.\\d*)?|\\.\\d+)(?:[eE][+-]?\\d+)?";
const VALUES = new RegExp(`^${COLUMN}\\s*in\\s*\\[\\s*(${TEXT}(?:\\s*,\\s*${TEXT})*)\\s*,?\\s*\\]$`, "isu");
const BOUND = new RegExp(`^${COLUMN}\\s*(>=|<=)\\s*(${NUMBER})$`, "u");
// What is no text, name, word or number stands alone; a text that is not closed goes to the end.
const TOKEN = new RegExp(`"(?:[^"\\\\]|\\\\.)*(?:"|$)|'(?:[^'\\\\]|\\\\.)*(?:'|$)|\`[^\`]*(?:\`|$)|${WORD}+|\\S`, "gsu");
const IN_QUOTES = new RegExp(`(${TEXT}|\`[^\`]*\`)`, "su");
const KEYWORDS = ["and", "or", "not", "in", "true", "false"];

/**
 * Split a filter into facets, a map of columns to sets of values, ranges, a map of columns to
 * { low, high } as they are written ("" where there is none), and the rest of it.
 */
export function readFilter(text) {
  const facets = new Map();
  const ranges = new Map();
  const rest = [];
  for (const part of splitAtAnd(straightened(text))) {
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
const textsIn = (list) => list.match(new RegExp(TEXT, "gsu")).map((text) => text.slice(1, -1).replace(/\\(.)/gsu, "$1"));

function named(column) {
  const plain = /^[A-Za-z_]\w*$/.test(column) && !KEYWORDS.includes(column.toLowerCase());
  return plain ? column : `\`${column.replaceAll("`", "``")}\``;
}

const TYPESET = "“”„‟«»＂‘’‚‛，（）［］＜＞＝！";
const STRAIGHT = '"'.repeat(7) + "'".repeat(4) + ",()[]<>=!";

/** A filter with straight quotes and plain punctuation outside of its texts. */
function straightened(text) {
  const pieces = text.split(IN_QUOTES);
  const straight = (piece) => piece.replace(/./gsu, (letter) => STRAIGHT[TYPESET.indexOf(letter)] ?? letter);
  return pieces.map((piece, place) => (place % 2 ? piece : straight(piece))).join("");
}

// At the top level alone: not in quotes, brackets or parentheses. A filter with a top-level "or" is one part.
function splitAtAnd(text) {
  const parts = [];
  let start = 0;
  let depth = 0;
  for (const { 0: token, index } of text.matchAll(TOKEN)) {
    const word = token.toLowerCase();
    if (token === "(" || token === "[") depth += 1;
    else if (token === ")" || token === "]") depth -= 1;
    else if (!depth && word === "or") return [`(${text.trim()})`];
    else if (!depth && word === "and") {
      parts.push(text.slice(start, index).trim());
      start = index + token.length;
    }
  }
  parts.push(text.slice(start).trim());
  return parts;
}
