// Issuers set statuses, one per request, as fast as they are acknowledged. Each change is durable before it is
// acknowledged.
import { isDone, pick, someReferences, update } from './lib/api.js';
import { P99, TREND_STATS, duration, vus } from './lib/settings.js';

export { handleSummary } from './lib/summary.js';

export const options = {
  scenarios: { issuers: { executor: 'constant-vus', vus: vus(10), duration: duration('30s') } },
  thresholds: { 'http_req_failed{name:update}': ['rate==0'], 'http_req_duration{name:update}': [`p(99)<${P99}`] },
  summaryTrendStats: TREND_STATS,
};

export const setup = () => someReferences(1000);

export default function (references) {
  // Always the same value, which pools with a final status accept repeatedly.
  isDone(update(pick(references), 1));
}
