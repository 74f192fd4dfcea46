// Issuers take new references, as fast as they are handed out.
import { withoutPause, take } from './lib/references.js';

export { handleSummary } from './lib/summary.js';

export const options = withoutPause();

export default function () {
  take(1);
}
