// Proves that @digitalbazaar/vc-bitstring-status-list and @4sure-tech/vc-bitstring-status-lists read our status list credentials as
// they come (W3C Bitstring Status List), and prints credentials that they make, for us to read.
//
// A W3C credential gets the `credentialStatus` that we hand out, unchanged. Both libraries fetch the credentials that it names; jose
// verifies each as a `vc+jwt` with our published key. After one update the one credential is revoked and not suspended, after another
// the other is suspended and not revoked, and a third stays valid.
// Control: with other keys of the same ids nothing verifies.
//
// Prints a line for each list that a library made: `made`, a JWT, and the indices that are set.
// Environment: BASE_URL, POOL, API_KEY, JWKS_URL, BEAT_MS (the pool's update-interval), ISSUER (the pool's `issuer`).
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import * as foursure from '@4sure-tech/vc-bitstring-status-lists';
import * as bazaar from '@digitalbazaar/vc-bitstring-status-list';
import { CompactSign, compactVerify, createLocalJWKSet, exportJWK, generateKeyPair } from 'jose';

const BEATS = 10;
const PURPOSES = ['revocation', 'suspension'];

function expect(holds, reason) {
  if (!holds) throw new Error(reason);
}

function setting(name) {
  expect(process.env[name], `set the environment variable ${name}`);
  return process.env[name];
}

async function request(method, path, json) {
  const response = await fetch(new URL(path, setting('BASE_URL')), {
    method,
    headers: { 'X-Api-Key': setting('API_KEY'), 'Content-Type': 'application/json' },
    body: json && JSON.stringify(json),
  });
  return { status: response.status, body: await response.text() };
}

async function newReferences(amount) {
  const { status, body } = await request('POST', `/pools/${setting('POOL')}/new-references?amount=${amount}&claims=true`);
  expect(status === 200, `new-references answered ${status}: ${body}`);
  const { references } = JSON.parse(body);
  for (const { index, credentialStatus } of references) {
    const entries = credentialStatus.map(({ type, statusPurpose, statusListIndex }) => [type, statusPurpose, statusListIndex]);
    const wanted = PURPOSES.map((purpose) => ['BitstringStatusListEntry', purpose, String(index)]);
    expect(isDeepStrictEqual(entries, wanted), `reference ${index} came with ${JSON.stringify(credentialStatus)}`);
  }
  return references;
}

async function update({ uri, index }, value) {
  const { status, body } = await request('PATCH', '/status-lists/update', { uri, index, value });
  expect(status === 204, `update answered ${status}: ${body}`);
}

const issue = ({ credentialStatus }) => ({
  '@context': ['https://www.w3.org/ns/credentials/v2'],
  type: ['VerifiableCredential'],
  issuer: setting('ISSUER'),
  credentialSubject: { id: 'did:example:holder' },
  credentialStatus,
});

// What a verifier takes from an address: the credential in a JWS that our key signed, and nothing that its times exclude.
const fetchTrusting = (jwks) => async (url) => {
  const response = await fetch(url, { headers: { Accept: 'application/vc+jwt' } });
  const type = response.headers.get('content-type');
  expect(response.status === 200 && type === 'application/vc+jwt', `GET ${url} answered ${response.status}, ${type}`);
  const { payload, protectedHeader } = await compactVerify(await response.text(), createLocalJWKSet(jwks));
  expect(protectedHeader.typ === 'vc+jwt' && protectedHeader.cty === 'vc', `the header is ${JSON.stringify(protectedHeader)}`);
  const credential = JSON.parse(Buffer.from(payload).toString());
  expect(credential.id === url, `the credential at ${url} is ${credential.id}`);
  expect(credential.iss === credential.issuer && credential.exp > Date.now() / 1000, `iss ${credential.iss}, exp ${credential.exp}`);
  expect(credential.credentialSubject.ttl > 0, `ttl is ${credential.credentialSubject.ttl}`);
  return credential;
};

// Each answers for one credential: [revoked, suspended].
const readers = {
  '@digitalbazaar': async (credential, load) => {
    const documentLoader = async (url) => ({ document: await load(url) });
    const checked = await bazaar.checkStatus({ credential, documentLoader, verifyBitstringStatusListCredential: false });
    expect(checked.verified, checked.error?.message);
    return checked.results.map(({ status }) => status);
  },
  '@4sure-tech': (credential, load) =>
    Promise.all(
      credential.credentialStatus.map(async (entry) => {
        const one = { ...credential, credentialStatus: entry };
        const { verified, status, error } = await foursure.checkStatus({ credential: one, getStatusListCredential: load });
        expect(!error, error?.message);
        expect(verified === (status === 0), `status ${status}, and verified is ${verified}`);
        return status === 1;
      }),
    ),
};

async function lookalikes({ keys }) {
  const lookalike = async ({ kid, alg, use }) => {
    const { publicKey } = await generateKeyPair(alg, { extractable: true });
    return { ...(await exportJWK(publicKey)), kid, alg, use };
  };
  return { keys: await Promise.all(keys.map(lookalike)) };
}

async function until(wanted, credential, load) {
  const beatMs = Number(setting('BEAT_MS'));
  for (const deadline = performance.now() + BEATS * beatMs; ; await sleep(beatMs / 4)) {
    const seen = await Promise.all(Object.values(readers).map((read) => read(credential, load)));
    if (seen.every((each) => isDeepStrictEqual(each, wanted))) return;
    expect(performance.now() < deadline, `${JSON.stringify(wanted)} is wanted, ${JSON.stringify(seen)} is read`);
  }
}

async function readOurs() {
  const jwks = await (await fetch(setting('JWKS_URL'))).json();
  const load = fetchTrusting(jwks);
  const references = await newReferences(3);
  const [revoked, suspended, kept] = references.map(issue);
  for (const credential of [revoked, suspended, kept]) await until([false, false], credential, load);

  const strange = fetchTrusting(await lookalikes(jwks));
  for (const [name, read] of Object.entries(readers)) {
    const reason = await read(kept, strange).then(() => 'none', (error) => error.message);
    expect(reason.includes('signature verification failed'), `control: ${name} with another key ends with: ${reason}`);
  }

  await Promise.all([update(references[0], 1), update(references[1], 2)]);
  await until([true, false], revoked, load);
  await until([false, true], suspended, load);
  await until([false, false], kept, load);
}

async function makeTheirs() {
  const { privateKey } = await generateKeyPair('ES256');
  const set = [0, 1, 7, 8, 4711, 131_071];
  const id = 'https://issuer.example/status/1';
  const ofBazaar = await bazaar.createList({ length: 131_072 });
  set.forEach((index) => ofBazaar.setStatus(index, true));
  const ofFoursure = new foursure.BitstreamStatusList();
  set.forEach((index) => ofFoursure.setStatus(index, 1));
  const issuer = setting('ISSUER');
  const made = [
    { ...(await bazaar.createCredential({ id, list: ofBazaar, statusPurpose: 'revocation' })), issuer },
    await foursure.createStatusListCredential({ id, issuer, statusList: ofFoursure, statusPurpose: 'revocation', validFrom: new Date(), ttl: 5000 }),
  ];
  for (const credential of made) {
    const payload = Buffer.from(JSON.stringify(credential));
    const jwt = await new CompactSign(payload).setProtectedHeader({ alg: 'ES256', typ: 'vc+jwt', cty: 'vc' }).sign(privateKey);
    console.log(`made ${jwt} ${set.join()}`);
  }
}

try {
  await readOurs();
  await makeTheirs();
} catch (error) {
  const cause = error.cause?.message ? ` (${error.cause.message})` : '';
  console.error(`bitstring: FAILED: ${error.message}${cause}`.replace(/\s+/g, ' '));
  process.exit(1);
}
