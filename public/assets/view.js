// Shows the answer: verdict, checks, counts, sizes, claims. Inserts only text, never HTML: the content of a token is untrusted.
import { colour, glyph, name } from './statuses.js';
import { bytes, count, plural, share } from './words.js';

const MARKS = {
  valid: '✓', invalid: '×', suspended: '‖', other: '?', outside: '×', refused: '!', unverified: '?', list: '✓', missing: '!', asking: '…',
};
const STATES = { pass: ['✓', 'passed'], fail: ['×', 'failed'], unable: ['?', 'not possible'], skip: ['–', 'not done'], note: ['i', 'note'] };

export const byId = (id) => document.getElementById(id);

export function make(tag, { className, ...attributes } = {}, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  for (const [attribute, value] of Object.entries(attributes)) element.setAttribute(attribute, value);
  element.append(...children);
  return element;
}

// `like this` becomes code.
export function withCode(text) {
  return text.split('`').map((part, at) => (at % 2 === 1 ? make('code', {}, part) : part));
}

const STATUSES = ['valid', 'invalid', 'suspended', 'other'];

// `isStale`: by its own `ttl`, a verifier would fetch the list again. A status then refers to the past.
export function showVerdict({ kind, title, why }, question, isStale = false) {
  byId('verdict').dataset.verdict = kind;
  byId('verdict-mark').textContent = MARKS[kind];
  byId('verdict').classList.toggle('is-stale', isStale);
  byId('verdict-title').textContent = isStale && STATUSES.includes(kind) ? `Was ${title}` : title;
  byId('stale').hidden = !isStale;
  byId('verdict-why').replaceChildren(...withCode(why));
  const reference = [make('span', { className: 'reference-name' }, 'uri'), make('code', {}, question.uri)];
  if (question.idx !== undefined) {
    reference.push(make('span', { className: 'reference-name' }, 'idx'), make('code', {}, String(question.idx)));
  }
  byId('verdict-reference').replaceChildren(...reference);
}

export function showChecks(checks) {
  byId('checks').replaceChildren(...checks.map(({ id, label, state, detail }) => {
    const [mark, meaning] = STATES[state];
    return make('li', { 'data-check': id, 'data-state': state },
      make('span', { className: 'check-mark', 'aria-hidden': 'true' }, mark),
      make('span', { className: 'check-text' },
        make('strong', {}, label), make('span', { className: 'visually-hidden' }, ` ${meaning}: `), make('span', { className: 'check-detail' }, ...withCode(detail))));
  }));
  const failed = checks.filter(({ state }) => state === 'fail').length;
  const unable = checks.filter(({ state }) => state === 'unable').length;
  byId('checks-count').textContent = failed > 0 ? `${failed} failed` : unable > 0 ? `${unable} not possible` : 'all passed';
}

export function showCounts(list, chosen) {
  const rows = list.counts.map((amount, value) => ({ amount, value })).filter(({ amount, value }) => amount > 0 || (value < 3 && list.bits < 8));
  byId('counts').tBodies[0].replaceChildren(...rows.map(({ amount, value }) => {
    const swatch = make('span', { className: 'swatch', 'aria-hidden': 'true' }, glyph(value));
    swatch.style.setProperty('--swatch', `var(${colour(value)})`);
    return make('tr', { 'data-status': value, 'data-entries': amount },
      make('th', { scope: 'row' }, swatch, name(value)), make('td', {}, count(amount)), make('td', {}, share(amount, list.entries)));
  }));
  const total = [make('tr', {}, make('th', { scope: 'row' }, 'Together'), make('td', {}, count(list.entries)), make('td', {}, `${list.bits} bit${list.bits > 1 ? 's' : ''} each`))];
  if (chosen < list.entries) {
    const swatch = make('span', { className: 'swatch is-ring', 'aria-hidden': 'true' });
    total.push(make('tr', { className: 'chosen' }, make('th', { scope: 'row' }, swatch, 'Chosen'), make('td', { colspan: '2' }, `index ${count(chosen)}`)));
  }
  byId('counts').tFoot.replaceChildren(...total);
}

export function showSizes({ token, fetched, list }) {
  const rows = [];
  if (list) {
    const bound = list.boundBytes();
    const above = bound > 0 ? `${((8 * bound) / list.entries).toPrecision(3)} bit of information per entry` : 'no information: all entries are alike';
    rows.push(['array', 'Array', list.bytes.length, `${plural(list.entries, 'entry', 'entries')} of ${plural(list.bits, 'bit')}`]);
    rows.push(['bound', 'Shannon bound', bound, above]);
  }
  if (token.lstLength !== undefined) {
    const against = list && list.boundBytes() > 0 ? `${(token.lstLength / list.boundBytes()).toFixed(2)} × the bound, ${share(token.lstLength, list.bytes.length)} of the array` : 'zlib';
    rows.push(['lst', 'Compressed `lst`', token.lstLength, list && list.boundBytes() === 0 ? `${share(token.lstLength, list.bytes.length)} of the array` : against]);
  }
  const encoding = token.format === 'JWT' ? 'JWT, base64url twice' : 'CWT, binary';
  rows.push(['token', 'Token', fetched.bytes.length, encoding]);
  if (fetched.encodedBytes !== undefined && fetched.encodedBytes !== fetched.bytes.length) {
    rows.push(['wire', 'Over the network', fetched.encodedBytes, 'with Content-Encoding']);
  }
  // The array has no bar: beside it, the bars to be compared would vanish.
  const most = Math.max(...rows.filter(([id]) => id !== 'array').map(([, , size]) => size));
  byId('sizes').replaceChildren(make('dl', { className: 'sizes' }, ...rows.map(([id, label, size, note]) => {
    const bar = make('span', { className: 'size-bar', 'aria-hidden': 'true' });
    bar.style.setProperty('--part', `${((100 * size) / most).toFixed(2)}%`);
    return make('div', { 'data-size': id, 'data-bytes': Math.round(size) },
      make('dt', {}, ...withCode(label)), make('dd', {}, bytes(size)), make('dd', { className: 'size-note' }, note), ...(id === 'array' ? [] : [bar]));
  })));
}

export function showClaims(token) {
  const shorten = (_, value) => (typeof value === 'string' && value.length > 400 ? `${value.slice(0, 160)}… (${count(value.length)} characters)` : value);
  byId('claims').textContent = JSON.stringify(token.shown, shorten, 2);
}
