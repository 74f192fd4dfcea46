// Measures whether fetches and updates disturb each other, and how long updates take to be visible.
//
//   alone_fetch    fetches at a fixed rate, no updates: what to compare with
//   fetch          the same rate, while updates ramp up
//   alone_update   updates at a fixed rate, no fetches: what to compare with
//   update         the same rate, while fetches ramp up
//   freshness      in all phases: one client revokes, and fetches until the list shows it
//
// The rate is fixed, because clients that wait for slow responses would send less and hide them. Run it once for each
// `update-interval` to compare (-e BEAT=1, a pool with that beat). MORE (1.2) limits how much slower the 99th percentile of
// fetches may become: k6 cannot compare two metrics in a threshold, so the summary gives the verdict, and bench/run counts
// it as a threshold. FETCHES and UPDATES are the fixed rates, MOST_FETCHES and MOST_UPDATES the ends of the ramps.
//
// One k6 that makes both kinds of requests disturbs itself: it measures a fetch late because it was busy with an update.
// With SIDE=fetch or SIDE=update it makes the requests of one side only, at the same times, so two of them, on two machines
// or with separate priorities, do the work of one. They start together at START (Unix time in seconds), because neither
// knows how long the other takes to get ready. Freshness, which verifies tokens, belongs to the updates.
import { fail, sleep } from 'k6';
import { Trend } from 'k6/metrics';
import { batchUpdate, fetchList, isDone, isOk, pick, someReferences, update } from './lib/api.js';
import { BEAT, DROPPED, FRESH_WITHIN, P99, TREND_STATS, choice, duration, number, vus } from './lib/settings.js';
import { handleSummary as summary, table } from './lib/summary.js';

const SIDE = choice('SIDE', 'both', 'fetch', 'update');
const SIDES = SIDE === 'both' ? ['fetch', 'update'] : [SIDE];
const START = number('START', 0);
const FETCHES = number('FETCHES', 500);
const UPDATES = number('UPDATES', 200);
const MORE = number('MORE', 1.2);
const PHASE = parseSeconds(duration('30s'));
const CLIENTS = vus(100);

// Costs 50 ms of CPU time per client, so clients that only fetch skip it.
const { statusAt, verified } = SIDES.includes('update') ? require('./lib/token.js') : {};

const freshness = new Trend('freshness', true);
const at = (phase) => `${phase * (PHASE + 2)}s`;
const steady = (exec, rate, phase) => ({
  executor: 'constant-arrival-rate', exec, rate, timeUnit: '1s', duration: `${PHASE}s`, startTime: at(phase),
  preAllocatedVUs: 50, maxVUs: 200, gracefulStop: '2s',
});
// Makes all clients beforehand: making them later would take CPU time from the measured requests.
const ramp = (exec, rate, phase) => ({
  executor: 'ramping-arrival-rate', exec, startRate: 0, timeUnit: '1s', startTime: at(phase), gracefulStop: '2s',
  stages: [{ target: rate, duration: `${PHASE / 2}s` }, { target: rate, duration: `${PHASE / 2}s` }],
  preAllocatedVUs: CLIENTS, maxVUs: CLIENTS,
});
const tagged = (scenario, phase) => ({ ...scenario, tags: { phase } });
const limits = (phase, rate) => ({
  [`http_req_duration{phase:${phase}}`]: [`p(99)<${P99}`],
  // Fewer requests than the fixed rate would measure something else. k6 tags what it drops only with the scenario.
  [`dropped_iterations{scenario:${phase}}`]: [`count<=${rate * PHASE * DROPPED}`],
});

const ALL = {
  fetch: {
    scenarios: {
      alone_fetch: tagged(steady('fetch', FETCHES, 0), 'alone_fetch'),
      fetch: tagged(steady('fetch', FETCHES, 1), 'fetch'),
      ramping_fetches: ramp('fetch', number('MOST_FETCHES', 2000), 3),
    },
    thresholds: { ...limits('alone_fetch', FETCHES), ...limits('fetch', FETCHES) },
  },
  update: {
    scenarios: {
      ramping_updates: ramp('updates', number('MOST_UPDATES', 1000), 1),
      alone_update: tagged(steady('updates', UPDATES, 2), 'alone_update'),
      update: tagged(steady('updates', UPDATES, 3), 'update'),
      freshness: {
        executor: 'constant-vus', exec: 'fresh', vus: 2, duration: `${4 * (PHASE + 2)}s`, gracefulStop: `${2 * BEAT + 5}s`,
        tags: { phase: 'freshness' },
      },
    },
    thresholds: {
      ...limits('alone_update', UPDATES), ...limits('update', UPDATES),
      freshness: [`p(99)<=${FRESH_WITHIN * 1000}`],
    },
  },
};
const ofSides = (what) => Object.assign({}, ...SIDES.map((side) => ALL[side][what]));

export const options = {
  scenarios: ofSides('scenarios'),
  thresholds: { checks: ['rate==1'], ...ofSides('thresholds') },
  summaryTrendStats: TREND_STATS,
  setupTimeout: '10m',
};

export function setup() {
  const references = { load: someReferences(1000), fresh: SIDES.includes('update') ? someReferences(1000) : [] };
  const left = START ? START - Date.now() / 1000 : 0;
  if (left < 0) fail(`ready ${-left.toFixed(1)} s after START, so not synchronous with the other side: choose a later START`);
  sleep(left);
  return references;
}

export const fetch = ({ load }) => isOk(fetchList(pick(load).uri));
export const updates = ({ load }) => isDone(update(pick(load), 1));

// No other client changes these references, so the change that a fetch shows is this client's own.
export async function fresh({ fresh: references }) {
  const reference = references[(__VU * 499 + __ITER) % references.length];
  if (!isDone(batchUpdate([reference], 1))) return sleep(1);
  const acknowledged = Date.now();
  for (;;) {
    const response = fetchList(reference.uri, { name: 'freshness' });
    const seen = isOk(response) && statusAt(await verified(response.body, reference.uri), reference.index) === 1;
    if (seen || Date.now() - acknowledged > 2000 * FRESH_WITHIN) break;
    sleep(0.05);
  }
  freshness.add(Date.now() - acknowledged);
  // Not synchronous with the beat.
  sleep(Math.random() * BEAT);
}

export function handleSummary(data) {
  data.interference = {};
  const lines = SIDES.map((side) => {
    const p99 = (phase) => data.metrics[`http_req_duration{phase:${phase}}`].values['p(99)'];
    const [alone, disturbed] = [p99(`alone_${side}`), p99(side)];
    const ratio = disturbed / alone;
    data.interference[side] = ratio;
    const [what, others] = side === 'fetch' ? ['fetches', 'updates'] : ['updates', 'fetches'];
    return `99th percentile of ${what}: ${alone.toFixed(2)} ms without ${others}, ${disturbed.toFixed(2)} ms while ${others} ramp: ${
      ratio.toFixed(2)} ×`;
  });
  // Only fetches have a limit.
  if (SIDES.includes('fetch')) {
    data.interference.allowed = MORE;
    lines[0] += `, ${data.interference.fetch <= MORE ? 'within' : 'ABOVE'} ${MORE}`;
  }
  return { ...summary(data), stdout: `${table(data)}\n\n${lines.join('\n')}\n` };
}

function parseSeconds(text) {
  const [, amount, unit] = /^(\d+)(s|m|h)$/.exec(text);
  return Number(amount) * { s: 1, m: 60, h: 3600 }[unit];
}
