// Facets in the text of a filter: `brand in ["Acme", "Bolt"]`, joined by "and" to what the user wrote.

const PART = /^(?:`((?:[^`])+)`|([A-Za-z_]\w*)) in \[((?:"(?:[^"\\]|\\.)*"(?:, )?)+)\]$/;

/** Split a filter into facets, a map of columns to sets of values, and the rest of it. */
export function readFilter(text) {
  const facets = new Map();
  const rest = [];
  for (const part of splitAtAnd(text)) {
    const match = PART.exec(part);
    const values = match && parseValues(match[3]);
    if (values) facets.set(match[1] ?? match[2], new Set(values));
    else if (part) rest.push(part);
  }
  return { facets, rest: rest.join(" and ") };
}

/** The filter that says the same. */
export function writeFilter({ facets, rest }) {
  const parts = rest ? [rest] : [];
  for (const [column, values] of facets) {
    if (!values.size) continue;
    const name = /^[A-Za-z_]\w*$/.test(column) && !["and", "or", "not", "in"].includes(column) ? column : `\`${column}\``;
    parts.push(`${name} in [${[...values].map((value) => JSON.stringify(value)).join(", ")}]`);
  }
  return parts.join(" and ");
}

function parseValues(list) {
  try {
    return JSON.parse(`[${list}]`);
  } catch {
    return null;
  }
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
