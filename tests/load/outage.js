// Readers and issuers of one instance, whatever the state of its store. Each notes every response:
//
//   <what> <begun> <took> <status> <proper>
//
// what: `read` (a published list, liveness, readiness), `update`, `allocate`, or `ask` (the stored status). begun:
// milliseconds since 1970. took: milliseconds. status: 0 without a response. proper: whether an error is a problem document
// with `Retry-After`.
//
// Settings: INSTANCE (address), PUBLIC_URL, REFERENCE (an index of a published list).
import http from 'k6/http';
import { sleep } from 'k6';
import { note, unanswered } from './notes.js';

const instance = __ENV.INSTANCE;
const [index, list] = __ENV.REFERENCE.split('@');
const uri = `${__ENV.PUBLIC_URL}/${list}`;
const headers = { 'X-Api-Key': 'x', 'Content-Type': 'application/json' };
const patience = { headers, timeout: '15s' };

const clients = (exec, vus) => ({ executor: 'constant-vus', exec, vus, duration: '2h', gracefulStop: '0s' });
export const options = {
  scenarios: {
    readers: clients('read', 3),
    updating: clients('update', 4),
    allocating: clients('allocate', 2),
    asking: clients('ask', 1),
  },
};

export function read() {
  noted('read', () => http.get(`${instance}/lists/${list}`));
  noted('read', () => http.get(`${instance}/health/live`));
  noted('read', () => http.get(`${instance}/health/ready`));
}

export function update() {
  const body = JSON.stringify({ uri, index: Number(index), value: Math.random() < 0.5 ? 0 : 1 });
  noted('update', () => http.patch(`${instance}/status-lists/update`, body, patience));
}

export function allocate() {
  noted('allocate', () => http.post(`${instance}/pools/p/new-references?amount=20`, null, patience));
}

export function ask() {
  noted('ask', () => http.get(`${instance}/pools/p/lists/${list}/statuses/${index}`, patience));
}

function noted(what, request) {
  const begun = Date.now();
  const response = request();
  const took = Date.now() - begun;
  note(what, begun, took, unanswered(response) ? 0 : response.status, isProblem(response));
  sleep(0.02 + Math.random() * 0.02);
}

function isProblem({ headers, body }) {
  return headers['Content-Type'] === 'application/problem+json' && headers['Retry-After'] > 0 && 'code' in JSON.parse(body);
}
