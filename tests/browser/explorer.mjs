// The scenes that tests/it/explorer.rs and tests/it/docs.rs set: each opens the page in Chromium and says what must be visible.
import assert from 'node:assert/strict';
import { launch } from './browser.mjs';
import { docs } from './docs.mjs';
import { million } from './million.mjs';
import { statuses } from './statuses.mjs';
import { untrustworthy } from './untrustworthy.mjs';

const play = { statuses, million, untrustworthy, docs }[process.argv[2]];
assert(play, `no scene ${process.argv[2]}`);
const browser = await launch();
try {
  await play(browser, JSON.parse(process.env.SCENE));
} finally {
  await browser.close();
}
