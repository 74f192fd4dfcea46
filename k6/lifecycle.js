// The life of a credential: allocate a reference, update its status, wait for the publication, fetch the list and verify it
// as a Relying Party does. Each step is a group of its own, with checks and a threshold.
import { check, group, sleep } from 'k6';
import { Trend } from 'k6/metrics';
import { fetchList, isDone, isOk, newReferences, update } from './lib/api.js';
import { BEAT, FRESH_WITHIN, P99, TREND_STATS, duration, vus } from './lib/settings.js';
import { statusAt, verified } from './lib/token.js';

export { handleSummary } from './lib/summary.js';

const INVALID = 1;
// From the acknowledgement of an update until a fetch shows it.
const freshness = new Trend('freshness', true);

export const options = {
  scenarios: { issuers: { executor: 'constant-vus', vus: vus(100), duration: duration('10m'), gracefulStop: `${2 * BEAT + 10}s` } },
  thresholds: {
    checks: ['rate==1'],
    'http_req_duration{step:allocate}': [`p(99)<${P99}`],
    'http_req_duration{step:update}': [`p(99)<${P99}`],
    'http_req_duration{step:fetch}': [`p(99)<${P99}`],
    // Each client looks twice a second.
    freshness: [`p(99)<=${FRESH_WITHIN * 1000 + 500}`],
  },
  summaryTrendStats: TREND_STATS,
};

export default async function () {
  // k6's groups do not wait for what is asynchronous, so the waiting is between them.
  const reference = group('allocate', () => {
    const response = newReferences(1, { step: 'allocate' });
    return isOk(response) ? response.json('references')[0] : undefined;
  });
  if (!reference) return sleep(1);
  const before = await status(reference);
  check(before, { 'a new reference is valid': ({ value }) => value === 0 });
  const updated = group('update', () => isDone(update(reference, INVALID, { step: 'update' })));
  if (!updated) return sleep(1);
  const acknowledged = Date.now();
  let seen = { value: 0 };
  while (seen.value !== INVALID && Date.now() - acknowledged < (BEAT + FRESH_WITHIN + 5) * 1000) {
    sleep(0.5);
    seen = await status(reference);
    if (seen.error) break;
  }
  freshness.add(Date.now() - acknowledged);
  check(seen, { 'the update is published': ({ value }) => value === INVALID });
}

// What a Relying Party makes of a reference.
async function status({ uri, index }) {
  const response = group('fetch', () => fetchList(uri, { step: 'fetch' }));
  if (!isOk(response)) return { error: `status ${response.status}` };
  try {
    const value = statusAt(await verified(response.body, uri), index);
    check(undefined, { 'the token verifies': () => true });
    return { value };
  } catch (error) {
    console.error(`${uri}: ${error.message}`);
    check(undefined, { 'the token verifies': () => false });
    return { error };
  }
}
