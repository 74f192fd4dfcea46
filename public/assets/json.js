// Untrusted JSON, read as `statuslist check` does: names are unique in each object (RFC 7515 and RFC 7519, section 4), and text
// is well-formed. JSON.parse alone keeps the last of two equal names.

const DEPTH_MAX = 127;
const TOKENS = /"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\],:]|[^\s"{}[\],:]+/g;

export function parse(bytes) {
  // A byte order mark is not part of JSON (RFC 8259, section 8.1), so it is kept for JSON.parse to refuse.
  const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  const value = JSON.parse(text);
  // From here on the text is known to be JSON, so its pieces can be distinguished by their first character.
  const open = [];
  let last = '';
  for (const [token] of text.matchAll(TOKENS)) {
    if (token === '{' || token === '[') {
      open.push(token === '{' ? new Set() : undefined);
      if (open.length > DEPTH_MAX) throw new Error('is nested too deeply');
    } else if (token === '}' || token === ']') {
      open.pop();
    } else if (token === ':') {
      const [name, names] = [JSON.parse(last), open.at(-1)];
      if (names.has(name)) throw new Error(`has the name ${last} twice in one object`);
      names.add(name);
    } else if (token[0] === '"') {
      if (token.includes('\\') && !JSON.parse(token).isWellFormed()) throw new Error('has half of a surrogate pair');
    } else if (/[-\d]/.test(token[0]) && !Number.isFinite(Number(token))) {
      throw new Error('has a number out of range');
    }
    last = token;
  }
  return value;
}
