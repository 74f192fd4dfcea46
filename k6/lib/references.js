// New references: the common part of the three scripts for them.
import { check } from 'k6';
import exec from 'k6/execution';
import { newReferences } from './api.js';
import { P99, TREND_STATS, duration, vus } from './settings.js';

// A client that takes less than the service keeps ready is never refused. One that takes more occasionally gets 429 from a
// pool with `on-underflow: fail`.
export const NONE_FAIL = 'rate==0';
export const FEW_FAIL = 'rate<0.01';

export const issuers = (clients, failed) => ({
  scenarios: { issuers: { executor: 'constant-vus', vus: vus(clients), duration: duration('30s') } },
  thresholds: {
    'http_req_failed{name:new-references}': [failed],
    'http_req_duration{name:new-references}': [`p(99)<${P99}`],
  },
  summaryTrendStats: TREND_STATS,
});

const seen = new Set();

// No client ever sees a reference twice.
export function take(amount) {
  const response = newReferences(amount);
  if (response.status === 429) return;
  const complete = check(response, {
    'status is 200': ({ status }) => status === 200,
    'as many as asked for': (answer) => answer.status === 200 && answer.json('references').length === amount,
  });
  if (!complete) return;
  for (const { uri, index } of response.json('references')) {
    const reference = `${uri} ${index}`;
    if (seen.has(reference)) exec.test.abort(`handed out twice: ${reference}`);
    // The latest are enough to detect repetitions, and do not fill the memory.
    if (seen.size > 100000) seen.clear();
    seen.add(reference);
  }
}
