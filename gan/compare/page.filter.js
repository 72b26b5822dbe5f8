// --- Filter: the language of where= on the command line without arithmetic, and words to search for. ---

const TOKEN = /\s*(?:("[^"]*"|'[^']*')|`([^`]*)`|(<=|>=|==|!=|=|<|>)|([()[\],])|([^\s<>=!()[\],"'`]+)|(.))/gy;
const OPERATORS = {
  "<": (a, b) => a < b, ">": (a, b) => a > b, "<=": (a, b) => a <= b, ">=": (a, b) => a >= b,
  "==": (a, b) => a === b, "=": (a, b) => a === b, "!=": (a, b) => a !== b,
};

// Return a function that says whether a row passes, or throw an Error that says what cannot be read.
// A condition takes values by `valueOf(row, name)`; a word on its own is looked for in `textOf(row)`.
function readFilter(text, columns, valueOf, textOf) {
  const tokens = [...text.trimEnd().matchAll(TOKEN)].map(([whole, quoted, name, operator, bracket, word, other]) => {
    if (other) throw new Error(`${whole.trim()} is not expected`);
    return { text: whole.trim(), quoted: quoted?.slice(1, -1), name, operator, bracket, word };
  });
  // A column is known by its name and by the key of the configuration that it holds.
  const byName = new Map([...columns.map((column) => [column.key, column]), ...columns.map((column) => [column.name, column])]);
  const numeric = new Map([...byName].map(([name, column]) => [name, column.numeric]));
  let at = 0;
  const isWord = (word) => tokens[at]?.word === word;
  const isBracket = (bracket) => tokens[at]?.bracket === bracket;
  const behind = () => at ? ` behind ${tokens[at - 1].text}` : "";
  function expect(bracket) {
    if (!isBracket(bracket)) throw new Error(`${bracket} is missing${behind()}`);
    at += 1;
  }
  function either() {
    const parts = [both()];
    while (isWord("or")) { at += 1; parts.push(both()); }
    return (row) => parts.some((part) => part(row));
  }
  function both() {
    const parts = [negation()];
    while (at < tokens.length && !isWord("or") && !isBracket(")")) {
      if (isWord("and")) at += 1;
      parts.push(negation());
    }
    return (row) => parts.every((part) => part(row));
  }
  function negation() {
    if (isWord("not")) { at += 1; const part = negation(); return (row) => !part(row); }
    if (isBracket("(")) { at += 1; const part = either(); expect(")"); return part; }
    return comparison();
  }
  function operand() {
    const token = tokens[at];
    if (!token || ["and", "or", "not", "in"].includes(token.word) || token.bracket || token.operator) {
      throw new Error(`a value is missing${behind()}`);
    }
    at += 1;
    if (token.quoted !== undefined) return { ...token, value: token.quoted };
    const name = token.name ?? token.word;
    if (byName.has(name)) return { ...token, column: byName.get(name).name };
    if (token.name !== undefined) throw new Error(unknownColumn(name, columns));
    const number = Number(token.word);
    return { ...token, value: Number.isNaN(number) ? token.word : number };
  }
  function comparison() {
    const first = operand();
    const tests = [];
    for (let left = first; tokens[at]?.operator; left = tests.at(-1).right) {
      const operator = tokens[at].text;
      at += 1;
      const right = operand();
      tests.push({ left, operator, right, holds: compared(left, operator, right) });
    }
    if (tests.length) return (row) => tests.every(({ holds }) => holds(row));
    const negated = isWord("not") && tokens[at + 1]?.word === "in";
    if (negated || isWord("in")) {
      at += negated ? 2 : 1;
      const close = isBracket("(") ? ")" : "]";
      expect(close === ")" ? "(" : "[");
      const options = [];
      // A comma may follow the last value.
      do options.push(compared(first, "==", operand())); while (isBracket(",") && ++at && !isBracket(close));
      expect(close);
      return (row) => options.some((holds) => holds(row)) !== negated;
    }
    if (byName.get(first.column)?.boolean && first.quoted === undefined) return (row) => valueOf(row, first.column) === true;
    const wanted = (first.quoted ?? first.name ?? first.text).toLowerCase();
    return (row) => textOf(row).includes(wanted);
  }
  function compared(left, operator, right) {
    if (left.column === undefined && right.column === undefined) throw new Error(unknownColumn(left.text, columns));
    const sides = [left, right], ordering = operator.startsWith("<") || operator.startsWith(">");
    const byNumber = sides.some((side) => numeric.get(side.column));
    for (const side of sides) {
      const isNumber = side.column === undefined ? typeof side.value === "number" : numeric.get(side.column);
      if (byNumber && !isNumber) throw new Error(`${side.text} is not a number`);
      const isOrdered = sides.some((one) => byName.get(one.column)?.ordered);
      if (ordering && !byNumber && !isOrdered) throw new Error(`${operator} compares numbers, and ${left.text} holds texts`);
    }
    const of = (side, row) => side.column === undefined ? side.value : valueOf(row, side.column);
    // Words are compared as the table shows them, and true and false are 1 and 0 beside a number.
    const beside = (value, other) => byNumber ? value : typeof value === "boolean" && typeof other === "number"
      ? String(Number(value)) : String(value).toLowerCase();
    return (row) => {
      const [a, b] = [of(left, row), of(right, row)];
      // As in pandas, what is not there differs from everything.
      if (a === null || b === null) return operator === "!=";
      return OPERATORS[operator](beside(a, b), beside(b, a));
    };
  }
  if (!tokens.length) return () => true;
  const passes = either();
  if (at < tokens.length) throw new Error(`${tokens[at].text} is not expected${behind()}; put texts in quotes, and columns with brackets in backticks`);
  return passes;
}

function unknownColumn(name, columns) {
  const near = columns.map((column) => [distance(name.toLowerCase(), column.name.toLowerCase()), column.name])
    .filter(([edits]) => edits <= Math.max(1, name.length / 3)).sort((a, b) => a[0] - b[0])[0];
  return `there is no column ${name}` + (near ? `; did you mean ${near[1]}?` : "");
}

// Return the number of letters to insert, remove or replace.
function distance(a, b) {
  let last = [...Array(b.length + 1).keys()];
  for (let i = 0; i < a.length; i += 1) {
    const next = [i + 1];
    for (let j = 0; j < b.length; j += 1) {
      next.push(Math.min(next[j] + 1, last[j + 1] + 1, last[j] + (a[i] === b[j] ? 0 : 1)));
    }
    last = next;
  }
  return last.at(-1);
}
