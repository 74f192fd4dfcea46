// Issuers take new references one by one, as fast as they are handed out.
import { FEW_FAIL, issuers, take } from './lib/references.js';

export { handleSummary } from './lib/summary.js';

export const options = issuers(10, FEW_FAIL);

export default function () {
  take(1);
}
