// `iat`, `exp` and `ttl` against the current time: how much of the token's life, and of this copy's, has passed.
import { instant, span } from './words.js';

const FRESH = (left) => `fresh for ${left}`;
const STALE = (ago) => `stale for ${ago}`;

// Returns elements for `claims` fetched at `fetchedAt`, and a function that moves them to a later time.
export function timeline({ iat, exp, ttl }, fetchedAt) {
  const rows = [];
  if (Number.isFinite(iat) && Number.isFinite(exp)) rows.push(row('Token', '`iat` to `exp`', iat, exp, (left) => `expires in ${left}`, (ago) => `expired ${ago} ago`));
  if (Number.isFinite(ttl)) {
    const until = Math.min(fetchedAt + ttl, Number.isFinite(exp) ? exp : Infinity);
    if (until > fetchedAt) rows.push(row('This copy', 'fetched, for `ttl`', fetchedAt, until, FRESH, STALE));
    if (Number.isFinite(iat)) {
      rows.push(row('Strict verifiers', '`ttl` from `iat`', iat, iat + ttl, FRESH, STALE));
    }
  }
  return { elements: rows.map(({ element }) => element), moveTo: (now) => rows.forEach(({ moveTo }) => moveTo(now)) };
}

function row(title, about, from, until, ahead, over) {
  const element = document.createElement('div');
  element.className = 'life';
  const heading = text('p', 'life-title', title);
  const [before, claims] = [document.createTextNode(' '), text('span', 'life-about', about.replaceAll('`', ''))];
  heading.append(before, claims);
  const state = text('p', 'life-state', '');
  const track = text('div', 'life-track', '');
  track.setAttribute('aria-hidden', 'true');
  track.append(text('span', 'life-over', ''), text('span', 'life-now', ''));
  const ends = text('p', 'life-ends', '');
  ends.append(text('span', '', instant(from)), text('span', '', instant(until)));
  element.append(heading, state, track, ends);
  const moveTo = (now) => {
    const part = Math.min(1, Math.max(0, (now - from) / (until - from || 1)));
    track.style.setProperty('--part', `${(100 * part).toFixed(2)}%`);
    element.classList.toggle('is-over', now >= until);
    state.textContent = now >= until ? over(span(now - until)) : ahead(span(until - now));
  };
  return { element, moveTo };
}

function text(tag, className, content) {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = content;
  return element;
}
