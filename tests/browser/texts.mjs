// The words of the status page: every language has all of them, with the same values in them, and the page uses each.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import de from '../../public/assets/texts/de.js';
import en from '../../public/assets/texts/en.js';

const valuesIn = (text) => [...text.matchAll(/\{(\w+)\}/g)].map(([, name]) => name).sort();
const keys = Object.keys(en);
assert.deepEqual(Object.keys(de), keys, 'the same keys in the same order');
for (const key of keys) {
  assert.deepEqual(valuesIn(de[key]), valuesIn(en[key]), `the values in ${key}`);
  assert(de[key].trim() !== '' && en[key].trim() !== '', key);
  assert(de[key] !== en[key] || ['explorer', 'partial'].includes(key), `${key} is not translated`);
}

const read = (name) => readFile(join(process.env.PUBLIC, name), 'utf8');
const source = (await Promise.all(['status.html', 'assets/status.js', 'assets/chart.js'].map(read))).join('\n');
const unused = keys.filter((key) => !source.includes(`'${key}'`) && !source.includes(`"${key}"`));
assert.deepEqual(unused, [], 'not used by the page');
const used = [...source.matchAll(/\btext\('(\w+)'|data-text="(\w+)"/g)].map(([, inCode, inPage]) => inCode ?? inPage);
assert(used.length > 20, `${used.length} uses: the control`);
assert.deepEqual(used.filter((key) => !keys.includes(key)), [], 'used by the page, and in no language');
