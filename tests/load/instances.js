// Issuers that use several instances of the service at once, any of them for any request, while these are killed. Each
// takes references and sets statuses of its own references, one request after the other, and notes:
//
//   issued <pool> <idx>@<list> …    it got these references
//   try <value> <idx>@<list> …      it requests this status
//   done                            that is acknowledged; until then it retries the same request
//
// Settings: INSTANCES (addresses), PUBLIC_URL, CLIENTS. Pools: `free`, whose statuses 0 to 2 are never final, and `final`,
// in which 1 is final.
import http from 'k6/http';
import { sleep } from 'k6';
import { fail, note, unanswered } from './notes.js';

const instances = __ENV.INSTANCES.split(' ');
const headers = { 'X-Api-Key': 'x', 'Content-Type': 'application/json' };
// Longer than the service's own request timeout, so that the service gives up first.
const patience = { headers, timeout: '15s' };
const mine = { free: [], final: [] };

export const options = {
  scenarios: {
    issuers: { executor: 'constant-vus', vus: Number(__ENV.CLIENTS), duration: '2h', gracefulStop: '0s' },
  },
};

export default function () {
  const pool = Math.random() < 0.5 ? 'free' : 'final';
  const chance = Math.random();
  if (mine[pool].length === 0 || chance < 0.3) {
    allocate(pool);
  } else if (chance < 0.8) {
    const reference = pick(pool, 1)[0];
    const value = valueFor(pool);
    update('update', [reference], value, { uri: reference.uri, index: reference.index, value });
  } else {
    const references = pick(pool, 2 + Math.floor(Math.random() * 30));
    const value = valueFor(pool);
    update('batch-update', references, value, { statusListReferences: references, value });
  }
  sleep(Math.random() * 0.03);
}

function allocate(pool) {
  const amount = 1 + Math.floor(Math.random() * 20);
  const response = http.post(`${instance()}/pools/${pool}/new-references?amount=${amount}`, null, patience);
  if (unanswered(response) || response.status === 503) {
    sleep(0.05);
    return;
  }
  if (response.status !== 200) {
    fail(`allocate: ${response.status} ${response.body}`);
  }
  const references = response.json('references');
  if (references.length !== amount || !references.every(({ uri }) => uri.startsWith(`${__ENV.PUBLIC_URL}/`))) {
    fail(`wrong references: ${response.body}`);
  }
  note('issued', pool, ...references.map(named));
  mine[pool].push(...references);
}

function update(path, references, value, body) {
  note('try', value, ...references.map(named));
  for (;;) {
    const response = http.patch(`${instance()}/status-lists/${path}`, JSON.stringify(body), patience);
    if (response.status === 204) {
      note('done');
      return;
    }
    if (!unanswered(response) && response.status !== 503) {
      fail(`update ${JSON.stringify(body)}: ${response.status} ${response.body}`);
    }
    sleep(0.05);
  }
}

function instance() {
  return instances[Math.floor(Math.random() * instances.length)];
}

// Several neighbours among the references of this client.
function pick(pool, amount) {
  const first = Math.floor(Math.random() * mine[pool].length);
  return mine[pool].slice(first, first + amount);
}

function valueFor(pool) {
  return pool === 'final' ? 1 : Math.floor(Math.random() * 3);
}

function named({ uri, index }) {
  return `${index}@${uri.slice(uri.lastIndexOf('/') + 1)}`;
}
