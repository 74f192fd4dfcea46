// How the numbers of a pool developed: reads its statistics, draws the revoked and suspended entries as steps, and says the same in
// words and in a table.
import { make } from './view.js';
import { count, instant, text } from './texts.js';

const HEADER = 'time,lists,entries,revoked,suspended';
const SVG = 'http://www.w3.org/2000/svg';
const WIDTH = 600;
const HEIGHT = 140;
// Room for the width of a line.
const EDGE = 2;
const ROWS_MAX = 20;

// Reads CSV into points, oldest first; throws if it is something else.
export function readStatistics(csv) {
  const [header, ...lines] = csv.split('\n');
  if (header !== HEADER) throw new Error('the statistics have another first line');
  return lines.filter((line) => line !== '').map((line) => {
    const [time, ...counts] = line.split(',');
    const [, , revoked, suspended] = counts.map(Number);
    const point = { time: Date.parse(time) / 1000, revoked, suspended };
    if (!Object.values(point).every(Number.isFinite)) throw new Error(`the statistics have a line that cannot be read: ${line.slice(0, 80)}`);
    return point;
  });
}

// The parts of a figure for these points: what is drawn, the same in words, and a table.
export function chart(points, now) {
  if (points.length === 0) return [make('p', { className: 'note' }, text('noPoints'))];
  const [first, last] = [points[0], points.at(-1)];
  const words = text('overTimeFrom', { first: count(first.revoked), from: instant(first.time), last: count(last.revoked), to: instant(last.time) });
  const most = Math.max(1, ...points.map(({ revoked, suspended }) => Math.max(revoked, suspended)));
  const end = Math.max(now, last.time);
  const x = (time) => EDGE + ((WIDTH - 2 * EDGE) * (time - first.time)) / (end - first.time || 1);
  const y = (amount) => HEIGHT - EDGE - ((HEIGHT - 2 * EDGE) * amount) / most;
  const steps = (name) => points.slice(1).reduce((path, point) => `${path}H${x(point.time).toFixed(1)}V${y(point[name]).toFixed(1)}`, `M${EDGE} ${y(first[name]).toFixed(1)}`);
  const line = (name) => `${steps(name)}H${WIDTH - EDGE}`;

  const picture = drawn('svg', {
    class: 'chart', viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': `${text('overTime')}: ${words}`, 'data-points': points.length,
  });
  picture.append(
    drawn('path', { class: 'chart-area', d: `${line('revoked')}V${HEIGHT}H${EDGE}Z` }),
    drawn('path', { class: 'chart-line', d: line('revoked') }),
  );
  const legend = [make('span', { className: 'chart-key', 'data-line': 'revoked' }, text('revoked'))];
  if (points.some(({ suspended }) => suspended > 0)) {
    picture.append(drawn('path', { class: 'chart-line is-suspended', d: line('suspended') }));
    legend.push(make('span', { className: 'chart-key', 'data-line': 'suspended' }, text('suspended')));
  }
  return [
    make('div', { className: 'chart-frame' },
      make('span', { className: 'chart-most', 'aria-hidden': 'true' }, count(most)), make('span', { className: 'chart-none', 'aria-hidden': 'true' }, count(0)), picture),
    make('p', { className: 'chart-legend' }, ...legend),
    make('figcaption', { className: 'note' }, words, table(points)),
  ];
}

function table(points) {
  const newest = points.slice(-ROWS_MAX).reverse();
  const row = ({ time, revoked, suspended }) => make('tr', {},
    make('th', { scope: 'row' }, make('time', { datetime: new Date(time * 1000).toISOString() }, instant(time))), ...[revoked, suspended].map((amount) => make('td', {}, count(amount))));
  return make('details', { className: 'points' },
    make('summary', {}, text('newest', { points: count(newest.length), all: count(points.length) })),
    make('table', {},
      make('thead', {}, make('tr', {}, ...['time', 'revoked', 'suspended'].map((name) => make('th', { scope: 'col' }, text(name))))),
      make('tbody', {}, ...newest.map(row))));
}

function drawn(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}
