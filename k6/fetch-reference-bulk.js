// Issuers take new references, 25 at a time, a thousand times a second.
import { atRate, take } from './lib/references.js';

export { handleSummary } from './lib/summary.js';

export const options = atRate(1000);

export default function () {
  take(25);
}
