// Issuers take new references, a thousand times a second.
import { atRate, take } from './lib/references.js';

export { handleSummary } from './lib/summary.js';

export const options = atRate(1000);

export default function () {
  take(1);
}
