// The life of a credential: allocate a reference, update its status, wait for the publication, fetch the list and verify it
// as a Relying Party does. Each step is a group, with a tag on its requests and checks, and thresholds of its own.
import { check, group, sleep } from 'k6';
import { Trend } from 'k6/metrics';
import { fetchList, isDone, isOk, newReferences, update } from './lib/api.js';
import { BEAT, FRESH_WITHIN, P99, TREND_STATS, duration, vus } from './lib/settings.js';
import { claimsOf, statusAt, verified } from './lib/token.js';

export { handleSummary } from './lib/summary.js';

const [ALLOCATE, UPDATE, WAIT, FETCH, VERIFY] = ['allocate', 'update', 'wait for publication', 'fetch', 'verify'];
const [VALID, INVALID] = [0, 1];
const PATIENCE_SECONDS = BEAT + FRESH_WITHIN + 5;
// From the acknowledgement of an update until a fetch shows it.
const freshness = new Trend('freshness', true);

const checked = (step) => [`checks{step:${step}}`, ['rate==1']];
const answered = (step) => [`http_req_duration{step:${step}}`, [`p(99)<${P99}`]];

export const options = {
  scenarios: { issuers: { executor: 'constant-vus', vus: vus(100), duration: duration('10m'), gracefulStop: `${2 * BEAT + 10}s` } },
  thresholds: {
    ...Object.fromEntries([ALLOCATE, UPDATE, WAIT, FETCH, VERIFY].map(checked)),
    ...Object.fromEntries([ALLOCATE, UPDATE, WAIT, FETCH].map(answered)),
    // Each client fetches twice a second.
    freshness: [`p(99)<=${FRESH_WITHIN * 1000 + 500}`],
  },
  summaryTrendStats: TREND_STATS,
};

export default async function () {
  const reference = step(ALLOCATE, allocate);
  if (!reference || !(await shows(reference, VALID))) return sleep(1);
  if (!step(UPDATE, (tags) => isDone(update(reference, INVALID, tags), tags))) return sleep(1);
  if (step(WAIT, (tags) => becomes(reference, INVALID, tags))) await shows(reference, INVALID);
}

const step = (name, work) => group(name, () => work({ step: name }));

function allocate(tags) {
  const response = newReferences(1, tags);
  return isOk(response, tags) ? response.json('references')[0] : undefined;
}

// Fetches repeatedly until a status is published. Does not verify the tokens: the next two steps do.
function becomes({ uri, index }, value, tags) {
  const begun = Date.now();
  let seen = false;
  while (!seen && Date.now() - begun < PATIENCE_SECONDS * 1000) {
    sleep(0.5);
    const response = fetchList(uri, tags);
    seen = isOk(response, tags) && statusIn(response.body, index) === value;
  }
  freshness.add(Date.now() - begun);
  return check(seen, { 'the update is published': (done) => done }, tags);
}

function statusIn(token, index) {
  try {
    return statusAt(claimsOf(token), index);
  } catch {
    return undefined;
  }
}

// The status of a reference, as a Relying Party finds it.
async function shows({ uri, index }, value) {
  const response = step(FETCH, (tags) => fetchedList(uri, tags));
  if (!response) return false;
  // k6's groups do not wait for asynchronous work such as verifying; the group checks its result.
  const outcome = await verdict(response.body, uri, index);
  if (outcome.error) console.error(`${uri}: ${outcome.error.message}`);
  return step(VERIFY, (tags) => check(outcome, {
    'the token verifies': ({ error }) => !error,
    [`the status is ${value}`]: ({ status }) => status === value,
  }, tags));
}

async function verdict(token, uri, index) {
  try {
    return { status: statusAt(await verified(token, uri), index) };
  } catch (error) {
    return { error };
  }
}

function fetchedList(uri, tags) {
  const response = fetchList(uri, tags);
  return isOk(response, tags) ? response : undefined;
}
