// Issuers take 25 new references at once and wait 250 ms after each request: fewer per second than the service keeps ready.
import { sleep } from 'k6';
import { NONE_FAIL, issuers, take } from './lib/references.js';

export { handleSummary } from './lib/summary.js';

// Just below a thousand references a second, in 40 requests.
export const options = issuers(10, NONE_FAIL);

export default function () {
  take(25);
  sleep(0.25);
}
