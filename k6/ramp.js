// Ten more users arrive each second, up to a hundred. They mostly fetch, and sometimes update.
import { sleep } from 'k6';
import { fetchList, isDone, isOk, pick, someReferences, update } from './lib/api.js';
import { P99, TREND_STATS, duration, vus } from './lib/settings.js';

export { handleSummary } from './lib/summary.js';

const USERS = vus(100);

export const options = {
  scenarios: {
    users: {
      executor: 'ramping-vus',
      stages: [
        { target: USERS, duration: `${Math.ceil(USERS / 10)}s` },
        { target: USERS, duration: duration('50s') },
      ],
      gracefulStop: '5s',
    },
  },
  thresholds: {
    checks: ['rate==1'],
    'http_req_duration{name:fetch}': [`p(99)<${P99}`],
    'http_req_duration{name:update}': [`p(99)<${P99}`],
  },
  summaryTrendStats: TREND_STATS,
};

export const setup = () => someReferences(1000);

export default function (references) {
  const reference = pick(references);
  // Nine of ten requests.
  if (Math.random() < 0.9) isOk(fetchList(reference.uri));
  else isDone(update(reference, 1));
  sleep(0.02 + Math.random() * 0.02);
}
