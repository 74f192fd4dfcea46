// The page of bench/compare, over the runs recorded in tests/bench/results: opens from a file, requests nothing, and shows each row
// with a chart and the figures of every run.
import assert from 'node:assert/strict';
import { Explorer } from './browser.mjs';

export async function compare(browser, { page: address, groups }) {
  for (const options of [{}, { width: 360, height: 740 }]) {
    const reader = await Explorer.open(browser, address, options);
    const sections = reader.page.locator('section');
    assert.equal(await sections.count(), groups.length);
    for (const [number, { runs, rows }] of groups.entries()) {
      const [ofRuns, ofRows] = [0, 1].map((table) => sections.nth(number).locator('> table').nth(table).locator('> tbody > tr'));
      assert.equal(await ofRuns.count(), runs);
      assert.equal(await ofRows.count(), rows);
      assert.equal(await ofRows.locator('> td > svg').count(), rows, 'a chart in each row');
      const first = ofRows.first();
      assert.equal(await first.locator('svg circle').count(), runs, 'a dot for each run');
      assert(!(await first.locator('details table').isVisible()));
      await first.locator('summary').click();
      assert.equal(await first.locator('details tbody tr').count(), runs);
      assert(await first.locator('details table').isVisible());
    }
    await reader.accessible('compare');
    await reader.screenshot(options.width ? 'compare-phone' : 'compare');
    assert.deepEqual(reader.requests.map((request) => request.url()), [address], 'nothing but the page was requested');
    await reader.close();
  }
}
