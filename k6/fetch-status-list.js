// Wallets and verifiers fetch one list, as fast as they can.
import { fetchList, isOk, someReferences } from './lib/api.js';
import { P99, TREND_STATS, duration, vus } from './lib/settings.js';

export { handleSummary } from './lib/summary.js';

export const options = {
  scenarios: { wallets: { executor: 'constant-vus', vus: vus(100), duration: duration('30s') } },
  thresholds: { 'http_req_failed{name:fetch}': ['rate==0'], 'http_req_duration{name:fetch}': [`p(99)<${P99}`] },
  summaryTrendStats: TREND_STATS,
};

export const setup = () => someReferences(1)[0];

export default function ({ uri }) {
  isOk(fetchList(uri));
}
