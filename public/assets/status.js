// Wires the status page: a card for each pool that the operator shows, counted again at each of its beats.
import { chart, readStatistics } from './chart.js';
import { Pool } from './pool.js';
import { configuration, fetchStatistics, fetchStatusPage } from './site.js';
import { clock, count, instant, language, share, span, text } from './texts.js';
import { byId, make } from './view.js';

// However short a beat is and however many lists there are, a page asks for no more than this.
const LISTS_PER_SECOND = 2;
const RETRY_SECS_MAX = 60;
const nowSecs = () => Date.now() / 1000;

const time = (secs, shown) => make('time', { datetime: new Date(secs * 1000).toISOString() }, shown(secs));

class Card {
  #failures = 0;
  #rows = {};

  constructor(lists, { pool, title, update_interval: beat, statistics }) {
    Object.assign(this, { lists, pool, beat: Math.max(1, Number(beat) || 1), statistics });
    this.title = title?.[language] ?? pool;
    this.source = new Pool(lists, pool);
    this.badge = make('p', { className: 'badge' }, text('loading'));
    this.notes = make('div', { className: 'pool-notes' });
    this.figure = make('p', { className: 'pool-share' });
    this.bar = make('div', { className: 'pool-bar', 'aria-hidden': 'true' }, make('span', { className: 'pool-bar-revoked' }), make('span', { className: 'pool-bar-suspended' }));
    this.list = make('dl', { className: 'pool-facts' });
    this.over = make('figure', { className: 'pool-over' });
    this.element = make('section', { className: 'card pool', 'data-pool': pool, 'aria-labelledby': `pool-${pool}`, 'aria-busy': 'true' },
      make('header', {}, make('h2', { id: `pool-${pool}` }, this.title), this.badge), this.notes, this.figure, this.bar, this.list, ...(statistics ? [this.over] : []));
    for (const part of [this.figure, this.bar, this.list]) part.hidden = true;
  }

  // Refreshes for ever: at each beat, less often if there are many lists or the server does not answer, and not while nobody looks.
  async run() {
    for (;;) {
      if (!document.hidden) await this.refresh();
      const usual = Math.max(this.beat, (this.facts?.wanted ?? 0) / LISTS_PER_SECOND);
      await pause(this.#failures === 0 ? usual : Math.max(usual, Math.min(RETRY_SECS_MAX, 2 ** this.#failures)));
    }
  }

  async refresh() {
    const before = this.facts?.revoked;
    try {
      this.facts = await this.source.refresh();
      this.problem = undefined;
      this.#failures = 0;
    } catch (problem) {
      this.problem = problem;
      this.#failures += 1;
    }
    this.show();
    if (before !== undefined && before !== this.facts.revoked) byId('progress').textContent = text('changed', { title: this.title, revoked: count(this.facts.revoked) });
    if (this.statistics && this.problem === undefined) await this.#showStatistics();
    this.element.setAttribute('aria-busy', 'false');
  }

  async #showStatistics() {
    try {
      const csv = await fetchStatistics(this.lists, this.pool);
      if (csv === this.csv) return;
      const isOpen = this.over.querySelector('details')?.open ?? false;
      this.over.replaceChildren(make('h3', {}, text('overTime')), ...chart(csv === undefined ? [] : readStatistics(csv), nowSecs()));
      const details = this.over.querySelector('details');
      if (details !== null) details.open = isOpen;
      this.csv = csv;
    } catch (problem) {
      console.warn(`no statistics of ${this.pool}: ${problem.message}`);
      if (this.csv === undefined) this.over.replaceChildren(make('h3', {}, text('overTime')), make('p', { className: 'note' }, text('noStatistics')));
    }
  }

  show() {
    const { facts } = this;
    this.#showState(nowSecs());
    if (facts === undefined) return;
    for (const part of [this.figure, this.bar, this.list]) part.hidden = false;
    this.figure.replaceChildren(make('strong', {}, share(facts.revoked, facts.entries)), ` ${text('revokedShare')}`);
    for (const name of ['revoked', 'suspended']) {
      this.bar.style.setProperty(`--${name}`, `${((100 * facts[name]) / (facts.entries || 1)).toFixed(3)}%`);
    }
    const withShare = (amount) => [count(amount), make('span', { className: 'pool-aside' }, share(amount, facts.entries))];
    this.#row('lists', count(facts.lists));
    this.#row('entries', count(facts.entries));
    this.#row('revoked', ...withShare(facts.revoked));
    if (facts.maySuspend) this.#row('suspended', ...withShare(facts.suspended));
    this.tick(nowSecs());
  }

  // Everything that depends on the time alone.
  tick(now) {
    this.#showState(now);
    if (!Number.isFinite(this.facts?.iat)) return;
    const { iat, exp } = this.facts;
    const next = iat + Math.max(1, Math.ceil((now - iat) / this.beat)) * this.beat;
    this.#row('published', time(iat, instant), make('span', { className: 'pool-aside' }, text('ago', { span: span(now - iat) })));
    this.#row('beat', text('beatAbout', { time: clock(next) }), make('span', { className: 'pool-aside' }, text('beatEvery', { span: span(this.beat) })));
    if (Number.isFinite(exp)) this.#row('until', time(exp, instant));
  }

  #row(name, ...content) {
    if (this.#rows[name] === undefined) {
      this.#rows[name] = make('dd', { 'data-fact': name });
      this.list.append(make('div', {}, make('dt', {}, text(name)), this.#rows[name]));
    }
    this.#rows[name].replaceChildren(...content.flatMap((part) => [part, ' ']));
  }

  #showState(now) {
    const { facts, problem } = this;
    if (facts === undefined && problem === undefined) return;
    const state = stateOf(facts, problem, now);
    const notes = [];
    if (problem !== undefined) notes.push([wordsFor(problem), facts && text('asOf', { time: instant(facts.at) })].filter(Boolean).join(' '));
    if (facts !== undefined && facts.exp <= now) notes.push(text('expiredWhy'));
    if (facts !== undefined && facts.counted < facts.wanted) notes.push(text('partialWhy', { counted: count(facts.counted), lists: count(facts.wanted) }));
    if (facts !== undefined && facts.wanted < facts.lists) notes.push(text('bounded', { counted: count(facts.wanted), lists: count(facts.lists) }));
    const shown = [state, ...notes].join('\n');
    if (shown === this.shown) return;
    this.shown = shown;
    this.element.dataset.state = state;
    this.badge.textContent = text(state);
    this.notes.replaceChildren(...notes.map((note) => make('p', {}, note)));
  }
}

function stateOf(facts, problem, now) {
  if (facts !== undefined && facts.exp <= now) return 'expired';
  if (problem !== undefined) return 'unreached';
  return facts.counted < facts.wanted ? 'partial' : 'fresh';
}

function wordsFor(problem) {
  if (!navigator.onLine) return text('offline');
  return text(problem.unanswered ? 'silent' : 'wrong');
}

// Waits, but not when the network is back, or the reader.
function pause(secs) {
  return new Promise((resolve) => {
    const ends = new AbortController();
    const end = () => {
      clearTimeout(timer);
      ends.abort();
      resolve();
    };
    const timer = setTimeout(end, secs * 1000);
    addEventListener('online', end, { signal: ends.signal });
    document.addEventListener('visibilitychange', () => { if (!document.hidden) end(); }, { signal: ends.signal });
  });
}

function showOperator(operator) {
  if (typeof operator?.name !== 'string') return;
  const name = text('operator', { name: operator.name });
  const link = (address, shown) => byId('links').append(make('li', {}, address === undefined ? shown : make('a', { href: address, rel: 'noreferrer' }, shown)));
  link(webAddress(operator.url), name);
  const documentation = webAddress(operator.documentation);
  if (documentation !== undefined) link(documentation, text('documentation'));
}

// Never `javascript:`, whoever wrote the document.
function webAddress(address) {
  return typeof address === 'string' && /^https?:\/\//i.test(address) ? address : undefined;
}

async function start() {
  document.documentElement.lang = language;
  document.title = text('title');
  for (const element of document.querySelectorAll('[data-text]')) element.textContent = text(element.dataset.text);
  const { lists } = await configuration();
  let page;
  for (let failures = 1; page === undefined; failures += 1) {
    try {
      page = await fetchStatusPage(lists);
    } catch (problem) {
      byId('problem').textContent = wordsFor(problem);
      byId('problem').hidden = false;
      await pause(Math.min(RETRY_SECS_MAX, 2 ** failures));
    }
  }
  byId('problem').hidden = true;
  showOperator(page.operator);
  const cards = page.pools.map((pool) => new Card(lists, pool));
  byId('pools').setAttribute('aria-busy', 'false');
  byId('pools').replaceChildren(...(cards.length > 0 ? cards.map(({ element }) => element) : [make('p', { className: 'note' }, text('empty'))]));
  setInterval(() => cards.forEach((card) => card.tick(nowSecs())), 1000);
  await Promise.all(cards.map((card) => card.run()));
}

start();
