// Wires the page: question → fetch, examine, judge → display, again when time passes or another index is chosen.
import { Bitmap } from './bitmap.js';
import { referencesIn } from './credential.js';
import { readIndex } from './indices.js';
import { intake } from './intake.js';
import { examine, judge } from './judge.js';
import { Problem, addressOf, configuration, fetchAggregation, fetchKeys, fetchToken } from './site.js';
import { timeline } from './timeline.js';
import { readToken } from './token.js';
import { byId, make, showChecks, showClaims, showCounts, showSizes, showVerdict, withCode } from './view.js';
import { plural } from './words.js';

const TABS = ['pool', 'reference', 'credential'];
const FIELDS = ['pool', 'pool-idx', 'uri', 'idx', 'credential', 'go-idx'];
const CHOICES_MAX = 20;
const nowSecs = () => Date.now() / 1000;

const site = configuration();
const bitmap = new Bitmap(byId('canvas'), byId('readout'), (idx) => choose(idx));
// The content of the page: `{ uri, idx, fetched, examined, life }`. Without `examined` while nothing was found.
let shown = {};
// Only the latest question gets an answer, however long an earlier one took.
let asked = 0;

// Every new question begins here. What was answered or complained about before goes at once, before anything is read or fetched,
// and what is still under way gets no answer: no verdict ever stands beside another question.
function begin({ isBusy = false } = {}) {
  asked += 1;
  shown = {};
  byId('answer').hidden = true;
  byId('empty').hidden = false;
  byId('verdict').dataset.verdict = '';
  byId('result').setAttribute('aria-busy', String(isBusy));
  if (location.hash !== '') history.replaceState(null, '', location.pathname + location.search);
  for (const field of FIELDS) invalid(field, '');
  say('');
  return asked;
}

async function ask(uri, idx, { focus = true } = {}) {
  const question = { uri, idx };
  const mine = begin({ isBusy: true });
  shown = { ...question };
  writeFragment(question);
  fillIn(question);
  showNoList({ kind: 'asking', title: 'Looking…', why: 'The list and its keys are being fetched.' }, question);
  say('Fetching the list…');
  try {
    const { lists } = await site;
    const [fetched, keys] = await Promise.all([fetchToken(uri, lists), fetchKeys(uri)]);
    const token = readOrRefuse(fetched);
    const examined = await examine(token, fetched.mediaType, uri, keys, nowSecs());
    if (mine !== asked) return;
    shown = { ...question, fetched, examined, life: timeline(token.claims, fetched.fetchedAt) };
    showWhole();
  } catch (error) {
    if (mine !== asked) return;
    showProblem(error, question);
  }
  byId('result').setAttribute('aria-busy', 'false');
  if (focus) byId('verdict-title').focus({ preventScroll: true });
  if (focus) byId('answer').scrollIntoView({ block: 'start', behavior: matchMedia('(prefers-reduced-motion: reduce)').matches ? 'auto' : 'smooth' });
}

function readOrRefuse(fetched) {
  try {
    return readToken(fetched.bytes, fetched.mediaType);
  } catch (error) {
    throw new Problem('No Status List Token', `${fetched.url} sent something else: ${error.message}. Check the \`uri\`; if it is right, tell the server’s operator.`);
  }
}

function showWhole() {
  const { fetched, examined } = shown;
  byId('empty').hidden = true;
  byId('answer').hidden = false;
  byId('answer').classList.remove('is-missing');
  byId('timeline').replaceChildren(...shown.life.elements);
  byId('freshness-note').textContent = examined.signature.state === 'pass' ? '' : 'as the token says, not verified';
  showSizes({ token: examined.token, fetched, list: examined.list });
  showClaims(examined.token);
  showJudgement();
}

// Updates everything that depends on the index or the time.
function showJudgement() {
  const { uri, idx, examined, fetched, life } = shown;
  const now = nowSecs();
  const { checks, verdict } = judge(examined, idx, now);
  const stale = isStale(verdict, examined.token.claims, fetched.fetchedAt, now);
  const wasRefused = byId('verdict').dataset.verdict === 'refused';
  showVerdict(verdict, { uri, idx }, stale);
  showChecks(checks);
  life.moveTo(now);
  // The content of a refused token is not shown: it could be mistaken for the truth.
  const trusted = verdict.kind !== 'refused' && examined.list.entries > 0;
  byId('picture').hidden = !trusted;
  if (trusted) {
    byId('picture-banner').hidden = verdict.kind !== 'unverified';
    byId('picture-banner').textContent = verdict.kind === 'unverified' ? 'Not verified: anybody could have written what is shown here.' : '';
    showCounts(examined.list, idx);
    bitmap.show(examined.list, idx);
  }
  if (!wasRefused || verdict.kind !== 'refused') say(`${byId('verdict-title').textContent}. ${verdict.why}`);
}

// A verdict without anything below it.
function showNoList(verdict, question) {
  byId('empty').hidden = true;
  byId('answer').hidden = false;
  byId('answer').classList.add('is-missing');
  byId('picture').hidden = true;
  showVerdict(verdict, question);
}

function showProblem(error, question) {
  const known = error instanceof Problem;
  if (!known) console.error(error);
  showNoList({ kind: 'missing', title: known ? error.title : 'This page failed', why: known ? error.message : `${error}` }, question);
  say(`${byId('verdict-title').textContent}. ${byId('verdict-why').textContent}`);
}

// Stale by its own `ttl`: a verifier would fetch it again. A refused token stays refused, whatever its age.
function isStale({ kind }, { ttl }, fetchedAt, now) {
  return kind !== 'refused' && Number.isFinite(ttl) && now >= fetchedAt + ttl;
}

// The bars move with the time, and a token that expires in the meantime is no longer shown as good.
function tick() {
  if (!shown.examined) return;
  const { examined, fetched, idx, life } = shown;
  const now = nowSecs();
  life.moveTo(now);
  const { verdict } = judge(examined, idx, now);
  const stale = isStale(verdict, examined.token.claims, fetched.fetchedAt, now);
  if (verdict.kind !== byId('verdict').dataset.verdict || stale === byId('stale').hidden) showJudgement();
}

function choose(idx) {
  if (!shown.examined) return;
  shown.idx = idx;
  writeFragment(shown);
  fillIn(shown);
  showJudgement();
}

function say(text) {
  byId('progress').textContent = text.replaceAll('`', '');
}

// The fragment stays in the browser: no server sees which index is being viewed.
function writeFragment({ uri, idx }) {
  const parameters = new URLSearchParams({ uri });
  if (idx !== undefined) parameters.set('idx', idx);
  history.replaceState(null, '', `#${parameters}`);
}

function readFragment() {
  const parameters = new URLSearchParams(location.hash.slice(1));
  const [uri, idx] = [parameters.get('uri'), parameters.get('idx') ?? ''];
  if (!uri) return;
  selectTab('reference');
  byId('uri').value = uri;
  byId('idx').value = idx;
  askReference({ focus: false });
}

function fillIn({ uri, idx }) {
  byId('uri').value = uri;
  for (const field of ['idx', 'pool-idx', 'go-idx']) {
    byId(field).value = idx ?? '';
    invalid(field, '');
  }
}

// Returns the number in a field: undefined if it is empty, null if it is not a number, which the field then says.
function indexIn(field) {
  try {
    const idx = readIndex(byId(field).value);
    invalid(field, '');
    return idx;
  } catch (error) {
    invalid(field, error.message);
    return null;
  }
}

// Shows an error below a field; an empty message clears it.
function invalid(field, message) {
  byId(`${field}-error`).replaceChildren(...withCode(message));
  byId(field).setAttribute('aria-invalid', String(message !== ''));
  if (message !== '') byId(field).focus();
}

function askReference(options) {
  begin();
  const uri = byId('uri').value.trim();
  try {
    addressOf(uri);
  } catch (problem) {
    invalid('uri', problem.message);
    return;
  }
  const idx = indexIn('idx');
  if (idx !== null) ask(uri, idx, options);
}

// `read` returns text or bytes, perhaps later. `name` says where they come from, if not from the field.
async function askCredential(read, name) {
  const mine = begin({ isBusy: true });
  forgetCredential();
  selectTab('credential');
  if (name !== undefined) byId('credential').value = '';
  say('Reading the credential…');
  try {
    const references = referencesIn(await read());
    if (mine !== asked) return;
    for (const { uri } of references) addressOf(uri);
    showCredential(references, name);
    if (references.length > 1) {
      byId('result').setAttribute('aria-busy', 'false');
      say(byId('choices-title').textContent);
      byId('choices').querySelector('button').focus();
      return;
    }
    ask(references[0].uri, references[0].idx);
  } catch (error) {
    if (mine !== asked) return;
    byId('result').setAttribute('aria-busy', 'false');
    say('');
    invalid('credential', error.message);
  }
}

// What was read from the credential, and a button for each reference if there are several.
function showCredential(references, name) {
  const kinds = [...new Set(references.map(({ what }) => what))].slice(0, 3).join(', ');
  byId('credential-read').replaceChildren(...withCode(`Read: ${kinds}${name === undefined ? '' : `, from ${name}`}.`));
  if (references.length === 1) return;
  byId('choices-title').textContent = `It has ${plural(references.length, 'reference')}. Which one?`;
  byId('choices-list').replaceChildren(...references.slice(0, CHOICES_MAX).map(({ uri, idx, what }) => {
    const button = make('button', { type: 'button', className: 'quiet wide', title: uri }, ...withCode(`${what}, \`idx\` ${idx}`));
    button.addEventListener('click', () => ask(uri, idx));
    return button;
  }));
  byId('choices').hidden = false;
}

function forgetCredential() {
  byId('credential-read').replaceChildren();
  byId('choices').hidden = true;
}

async function showLists() {
  const mine = begin();
  const pool = byId('pool').value.trim();
  byId('list-form').hidden = true;
  if (pool === '') {
    invalid('pool', 'Enter the name of a pool. Pools are not listed anywhere, on purpose.');
    return;
  }
  say('Fetching the pool’s lists…');
  try {
    const { lists } = await site;
    const uris = await fetchAggregation(lists, pool);
    if (mine !== asked) return;
    byId('list').replaceChildren(...uris.map((uri) => make('option', { value: uri, title: uri }, uri.split('/').at(-1) || uri)));
    byId('list').selectedIndex = uris.length > 0 ? 0 : -1;
    byId('list').size = Math.min(7, Math.max(2, uris.length));
    byId('list-count').textContent = String(uris.length);
    byId('list-form').hidden = false;
    byId('list').focus();
    say(`${plural(uris.length, 'list')} in the pool ${pool}.`);
  } catch (problem) {
    if (mine !== asked) return;
    say('');
    invalid('pool', problem.missing ? `There is no pool ${pool} here, or it has no aggregation.` : `${problem.title ?? 'This page failed'}. ${problem.message}`);
  }
}

function askList() {
  begin();
  const uri = byId('list').value;
  const idx = indexIn('pool-idx');
  if (uri !== '' && idx !== null) ask(uri, idx);
}

function selectTab(name, focus = false) {
  for (const tab of TABS) {
    const button = byId(`tab-${tab}`);
    button.setAttribute('aria-selected', String(tab === name));
    button.tabIndex = tab === name ? 0 : -1;
    byId(`panel-${tab}`).hidden = tab !== name;
  }
  if (focus) byId(`tab-${name}`).focus();
}

function onSubmit(id, act) {
  byId(id).addEventListener('submit', (event) => {
    event.preventDefault();
    act();
  });
}

TABS.forEach((tab, at) => {
  byId(`tab-${tab}`).addEventListener('click', () => selectTab(tab));
  byId(`tab-${tab}`).addEventListener('keydown', ({ key }) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
    if (step) selectTab(TABS[(at + step + TABS.length) % TABS.length], true);
  });
});
onSubmit('pool-form', showLists);
onSubmit('list-form', askList);
onSubmit('reference-form', () => askReference());
onSubmit('credential-form', () => askCredential(() => byId('credential').value));
onSubmit('go', () => {
  const typed = byId('go-idx').value;
  // The list stays, the status of the index before does not.
  choose(undefined);
  byId('go-idx').value = typed;
  const idx = indexIn('go-idx');
  if (idx === undefined) invalid('go-idx', 'Enter an index.');
  if (idx === undefined || idx === null) return;
  choose(idx);
  bitmap.reveal(idx);
});
intake({ button: byId('open-file'), field: byId('file'), curtain: byId('curtain') }, (name, read) => askCredential(read, name));
// What is being typed is another question already.
for (const field of ['pool', 'list', 'pool-idx', 'uri', 'idx', 'credential']) {
  byId(field).addEventListener('input', () => {
    begin();
    if (field === 'credential') forgetCredential();
  });
}
byId('list').addEventListener('dblclick', askList);
byId('list').addEventListener('keydown', (event) => {
  if (event.key !== 'Enter') return;
  event.preventDefault();
  askList();
});
byId('again').addEventListener('click', () => ask(shown.uri, shown.idx));
byId('copy-link').addEventListener('click', async () => {
  try {
    await navigator.clipboard.writeText(location.href);
    say('The link is copied.');
    byId('copy-link').textContent = 'Copied';
  } catch {
    say('The browser did not allow copying: take the address of this page.');
    byId('copy-link').textContent = 'See the address bar';
  }
  setTimeout(() => { byId('copy-link').textContent = 'Copy link'; }, 2500);
});
byId('zoom-in').addEventListener('click', () => bitmap.zoom(2));
byId('zoom-out').addEventListener('click', () => bitmap.zoom(0.5));
byId('zoom-fit').addEventListener('click', () => bitmap.fit());
byId('rare').addEventListener('click', () => bitmap.exception());
addEventListener('hashchange', readFragment);
setInterval(tick, 1000);

const { pools, hasStatusPage } = await site;
byId('status-link').hidden = !hasStatusPage;
byId('pools').replaceChildren(...pools.map((pool) => make('option', { value: pool })));
byId('pool').value = pools[0] ?? '';
readFragment();
