// Proves that @sd-jwt/sd-jwt-vc accepts what we hand out and publish, as it comes: a credential whose `status` claim is our
// reference unchanged verifies, the library itself fetching our Status List Token and checking it with our published key;
// after one update it is rejected for its status and nothing else, while a second credential stays accepted.
// Control: the same credential is rejected when the list's key is another one.
//
// Environment: BASE_URL (http://127.0.0.1:18090), POOL, API_KEY, JWKS_URL, BEAT_MS (the pool's update-interval).
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { ES256, digest, generateSalt } from '@sd-jwt/crypto-nodejs';
import { SDJwtVcInstance } from '@sd-jwt/sd-jwt-vc';
import { compactVerify, createLocalJWKSet, exportJWK, generateKeyPair } from 'jose';

const BEATS_UNTIL_REJECTED = 10;

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
  const body = await response.text();
  return { status: response.status, body };
}

async function newReferences(amount) {
  const { status, body } = await request('POST', `/pools/${setting('POOL')}/new-references?amount=${amount}&claims=true`);
  expect(status === 200, `new-references answered ${status}: ${body}`);
  const { references } = JSON.parse(body);
  expect(references.length === amount, `asked for ${amount} references, got ${references.length}`);
  for (const { uri, index, status } of references) {
    const named = isDeepStrictEqual(status, { status_list: { idx: index, uri } });
    expect(named, `reference ${index} of ${uri} came with the status claim ${JSON.stringify(status)}`);
  }
  return references;
}

async function update(reference, value) {
  const { status, body } = await request('PATCH', '/status-lists/update', { uri: reference.uri, index: reference.index, value });
  expect(status === 204, `update answered ${status}: ${body}`);
}

// Keys as like ours as they can be, the same kid and alg, but not ours.
async function lookalikes({ keys }) {
  const lookalike = async ({ kid, alg, use }) => {
    const { publicKey } = await generateKeyPair(alg, { extractable: true });
    return { ...(await exportJWK(publicKey)), kid, alg, use };
  };
  return { keys: await Promise.all(keys.map(lookalike)) };
}

const issuerKeys = await ES256.generateKeyPair();
const issuer = new SDJwtVcInstance({
  signer: await ES256.getSigner(issuerKeys.privateKey),
  signAlg: 'ES256',
  hasher: digest,
  hashAlg: 'sha-256',
  saltGenerator: generateSalt,
});

function issue({ status }) {
  const iat = Math.floor(Date.now() / 1000);
  const claims = { iss: 'https://issuer.example', iat, vct: 'urn:example:identity', given_name: 'Erika', status };
  return issuer.issue(claims, { _sd: ['given_name'] });
}

// No statusListFetcher and no statusValidator: fetching the list and judging the status are left to the library.
// The key is looked up by the kid of the list's own header; jose finds none when that kid is not in the set.
async function verifierTrusting(jwks) {
  const listKeys = createLocalJWKSet(jwks);
  const verifier = new SDJwtVcInstance({
    hasher: digest,
    verifier: await ES256.getVerifier(issuerKeys.publicKey),
    statusVerifier: async (data, signature) => Boolean(await compactVerify(`${data}.${signature}`, listKeys)),
  });
  return (credential) => verifier.verify(credential).then(() => null, (error) => error.message);
}

async function check() {
  const beatMs = Number(setting('BEAT_MS'));
  expect(beatMs > 0, `BEAT_MS is not a number of milliseconds: ${process.env.BEAT_MS}`);
  const jwks = await (await fetch(setting('JWKS_URL'))).json();
  const rejection = await verifierTrusting(jwks);
  const references = await newReferences(2);
  const [revoked, kept] = await Promise.all(references.map(issue));
  const expectAccepted = async (credential, which) => {
    const reason = await rejection(credential);
    expect(reason === null, `${which} is rejected: ${reason}`);
  };

  await expectAccepted(revoked, 'a fresh credential');
  await expectAccepted(kept, 'a second fresh credential');

  const withWrongKey = await (await verifierTrusting(await lookalikes(jwks)))(kept);
  const refused = withWrongKey === 'Status List JWT verification failed: signature verification failed';
  expect(refused, `control: with another key for the list, the credential is ${withWrongKey ?? 'accepted'}`);

  await update(references[0], 1);
  const start = performance.now();
  const elapsedMs = () => Math.round(performance.now() - start);
  let reason;
  while ((reason = await rejection(revoked)) === null) {
    expect(elapsedMs() < BEATS_UNTIL_REJECTED * beatMs, `still accepted ${elapsedMs()} ms after its status was set to 1`);
    await sleep(Math.min(beatMs / 4, 250));
  }
  const delayMs = elapsedMs();
  expect(reason === 'Status is not valid', `the revoked credential is rejected, but not for its status: ${reason}`);
  await expectAccepted(kept, 'the credential that was not revoked');
  return `accepted, then rejected for its status ${delayMs} ms after the update; the other one stays accepted`;
}

try {
  console.log(`sd_jwt_vc: ok: ${await check()}`);
} catch (error) {
  const cause = error.cause?.message ? ` (${error.cause.message})` : '';
  console.error(`sd_jwt_vc: FAILED: ${error.message}${cause}`.replace(/\s+/g, ' '));
  process.exit(1);
}
