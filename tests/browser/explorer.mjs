// The scenes that tests/it/explorer.rs, docs.rs and bench.rs set: each opens the page in Chromium and says what must be visible.
import assert from 'node:assert/strict';
import { launch } from './browser.mjs';
import { compare } from './compare.mjs';
import { docs } from './docs.mjs';
import { everyone } from './everyone.mjs';
import { failures } from './failures.mjs';
import { handover } from './handover.mjs';
import { million } from './million.mjs';
import { questions } from './questions.mjs';
import { statusPage } from './status_page.mjs';
import { statuses } from './statuses.mjs';
import { untrustworthy } from './untrustworthy.mjs';

const play = { statuses, handover, questions, failures, everyone, million, untrustworthy, statusPage, docs, compare }[process.argv[2]];
assert(play, `no scene ${process.argv[2]}`);
const browser = await launch();
try {
  await play(browser, JSON.parse(process.env.SCENE));
} finally {
  await browser.close();
}
