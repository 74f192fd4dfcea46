// New references at a fixed rate or without a pause; what the three scripts for them share.
import { check } from 'k6';
import exec from 'k6/execution';
import { newReferences } from './api.js';
import { DROPPED, P99, TREND_STATS, duration, rate, vus } from './settings.js';

const thresholds = {
  // With `on-underflow: fail` a pool may answer 429 to a few.
  'http_req_failed{name:new-references}': ['rate<0.01'],
  'http_req_duration{name:new-references}': [`p(99)<${P99}`],
};

export const atRate = (requestsPerSecond) => ({
  scenarios: {
    issuers: {
      executor: 'constant-arrival-rate',
      rate: rate(requestsPerSecond),
      timeUnit: '1s',
      duration: duration('30s'),
      preAllocatedVUs: vus(10),
      maxVUs: vus(10) * 10,
    },
  },
  thresholds: { ...thresholds, dropped_iterations: [`rate<=${rate(requestsPerSecond) * DROPPED}`] },
  summaryTrendStats: TREND_STATS,
});

export const withoutPause = () => ({
  scenarios: { issuers: { executor: 'constant-vus', vus: vus(10), duration: duration('30s') } },
  thresholds,
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
    // The latest are enough to notice, and do not fill the memory.
    if (seen.size > 100000) seen.clear();
    seen.add(reference);
  }
}
