// Issuers take new references one by one and wait 10 ms after each: fewer per second than the service keeps ready.
import { sleep } from 'k6';
import { NONE_FAIL, issuers, take } from './lib/references.js';

export { handleSummary } from './lib/summary.js';

// Just below a thousand a second, if answers take 2 ms.
export const options = issuers(12, NONE_FAIL);

export default function () {
  take(1);
  sleep(0.01);
}
