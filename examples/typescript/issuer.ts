// What an issuer does, with a client generated from the service's description: takes references for new credentials, sets statuses,
// reads them back until they are published, and tells the errors of the service apart.
//
// Environment: STATUSLIST_URL (http://localhost:8090), STATUSLIST_API_KEY, STATUSLIST_POOL (demo).
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import createClient from 'openapi-fetch';
import type { components, paths } from './api.js';

type Schemas = components['schemas'];

/** An answer that is a problem. Programs compare `code`; `message` is for people. */
class Refused extends Error {
  constructor(readonly status: number, readonly problem: Schemas['Problem']) {
    super(`${status} ${problem.code}: ${problem.message}`);
  }
}

/** The body of a good answer; throws `Refused` with that of any other. */
function bodyOf<T>({ data, error, response }: { data?: T; error?: Schemas['Problem']; response: Response }): T {
  if (!response.ok) throw new Refused(response.status, error ?? { code: 'UNKNOWN', message: response.statusText });
  return data as T;
}

/** Waits for the problem of a request that must be refused. */
async function refusal(request: Promise<unknown>): Promise<Refused> {
  const outcome = await request.then(() => undefined, (reason: unknown) => reason);
  if (outcome instanceof Refused) return outcome;
  throw outcome ?? new Error('the service took a request that it should refuse');
}

const apiKey = process.env.STATUSLIST_API_KEY;
if (!apiKey) throw new Error('set STATUSLIST_API_KEY to the API key of the pool');
const pool = process.env.STATUSLIST_POOL ?? 'demo';
const service = createClient<paths>({
  baseUrl: process.env.STATUSLIST_URL ?? 'http://localhost:8090',
  headers: { 'X-Api-Key': apiKey },
});

/** Allocates references, one for each new credential. A retry under the same key gets the same ones, whatever was lost. */
async function allocate(amount: number, idempotencyKey: string): Promise<Schemas['Reference'][]> {
  const answer = await service.POST('/pools/{pool}/new-references', {
    params: { path: { pool }, query: { amount, claims: 'true' }, header: { 'Idempotency-Key': idempotencyKey } },
  });
  return bodyOf(answer).references;
}

/** Sets one status. With `expected` only if the stored one is that. */
async function set({ uri, index }: Schemas['Reference'], value: Schemas['Status'], expected?: Schemas['Status']): Promise<void> {
  bodyOf(await service.PATCH('/status-lists/update', { body: { uri, index, value, expected } }));
}

/** Sets several statuses, all or none. */
async function setAll(updates: Schemas['Update'][]): Promise<void> {
  bodyOf(await service.PATCH('/status-lists/batch-update', { body: { updates } }));
}

const idOf = ({ uri }: { uri: string }) => uri.slice(uri.lastIndexOf('/') + 1);

async function stored(reference: Schemas['Reference']): Promise<Schemas['Stored']> {
  const path = { pool, id: idOf(reference), idx: reference.index };
  return bodyOf(await service.GET('/pools/{pool}/lists/{id}/statuses/{idx}', { params: { path } }));
}

/** Waits until verifiers can see the stored status. */
async function published(reference: Schemas['Reference'], beatSecs: number): Promise<void> {
  for (let beats = 0; beats < 30; beats += 1) {
    if ((await stored(reference)).published) return;
    await sleep(beatSecs * 1000);
  }
  throw new Error(`${reference.uri} is not published after 30 beats`);
}

const { size, bits, updateInterval, keyId } = bodyOf(await service.GET('/pools/{pool}', { params: { path: { pool } } }));
console.log(`pool ${pool}: ${size} entries of ${bits} bits in each list, published every ${updateInterval} s`);

const idempotencyKey = randomUUID();
const references = await allocate(3, idempotencyKey);
assert.deepEqual(await allocate(3, idempotencyKey), references, 'a retry gets the same references');
const [first, second, third] = references;
assert(first && second && third);
// Goes into the credential as it is. (With `claims=cbor` it would be a text.)
assert(typeof first.status === 'object' && first.status.status_list.idx === first.index);
console.log(`status claim of a credential: ${JSON.stringify(first.status)}`);

await set(first, 'revoked', 'valid');
await setAll([{ uri: second.uri, index: second.index, value: 'revoked' }, { uri: third.uri, index: third.index, value: 'valid' }]);
for (const [reference, value] of [[first, 1], [second, 1], [third, 0]] as const) {
  assert.equal((await stored(reference)).value, value);
}

const changed = await refusal(set(first, 'valid', 'valid'));
assert.deepEqual([changed.status, changed.problem.code], [412, 'PRECONDITION_FAILED']);
const beyond = await refusal(set({ uri: first.uri, index: size }, 'revoked'));
assert.deepEqual([beyond.status, beyond.problem.code], [400, 'INDEX_OUT_OF_BOUNDS']);
console.log(`refused: ${beyond.message}`);
assert.equal((await stored(first)).value, 1, 'a refused change changes nothing');

const { lists } = bodyOf(await service.GET('/pools/{pool}/lists', { params: { path: { pool } } }));
assert(lists.some(({ uri, open }) => uri === first.uri && open));

for (const reference of references) await published(reference, updateInterval);
// What verifiers fetch: the addresses of all lists, the keys, a signed list.
const { status_lists: addresses } = bodyOf(await service.GET('/lists/aggregation/{pool}', { params: { path: { pool } } }));
assert(addresses.includes(first.uri));
const { keys } = bodyOf(await service.GET('/lists/jwks.json'));
assert(keys.some(({ kid }) => kid === keyId));
const token = await service.GET('/lists/{list}', { params: { path: { list: idOf(first) } }, parseAs: 'text' });
assert.match(bodyOf(token), /^eyJ[\w-]+\.[\w-]+\.[\w-]+$/);

for (const { uri, index } of [first, second]) console.log(`revoked ${uri} ${index}`);
