// All network access: lists, their keys, aggregations, and where to find them. Reads with bounds, sends no cookies and no
// referrer, and turns every failure into a sentence that says what to do.
import { LIST_BYTES_MAX } from './list.js';
import { usableKeys } from './verify.js';
import { bytes, instant } from './words.js';

// A list that does not compress, in base64url twice.
const TOKEN_BYTES_MAX = Math.ceil((LIST_BYTES_MAX / 9) * 16) + 65536;
const JSON_BYTES_MAX = 16 << 20;
const STATISTICS_BYTES_MAX = 1 << 20;
const TIMEOUT_MS = 30_000;
const ACCEPT = 'application/statuslist+jwt, application/statuslist+cwt;q=0.9';

// A failure with a message for people.
export class Problem extends Error {
  constructor(title, message, missing = false) {
    super(message);
    this.title = title;
    this.missing = missing;
  }
}

// The address of the lists: beside this page, unless the operator's `explorer.json` says otherwise.
export async function configuration() {
  const page = new URL('.', document.baseURI);
  let given = {};
  try {
    given = await getJson(new URL('explorer.json', page));
  } catch (problem) {
    if (!problem.missing) console.warn(`explorer.json is not used: ${problem.message}`);
  }
  const lists = new URL(typeof given.lists === 'string' ? given.lists : 'lists/', page);
  if (!lists.pathname.endsWith('/')) lists.pathname += '/';
  const pools = Array.isArray(given.pools) ? given.pools.filter((pool) => typeof pool === 'string') : [];
  return { lists, pools, hasStatusPage: given.status === true };
}

// Returns what the status page shows: `{ operator, pools }`. Without the document it shows nothing.
export async function fetchStatusPage(lists) {
  try {
    const { operator, pools } = await getJson(new URL('status/pools.json', lists));
    return { operator, pools: Array.isArray(pools) ? pools.filter((shown) => typeof shown?.pool === 'string') : [] };
  } catch (problem) {
    if (problem.missing) return { pools: [] };
    throw problem;
  }
}

// Returns the statistics of a pool as CSV; undefined if there are none yet.
export async function fetchStatistics(lists, pool) {
  try {
    const response = await get(new URL(`status/${encodeURIComponent(pool)}.csv`, lists), 'text/csv');
    return new TextDecoder().decode(await read(response, STATISTICS_BYTES_MAX));
  } catch (problem) {
    if (problem.missing) return undefined;
    throw problem;
  }
}

// Returns the URIs of a pool's lists. A static host has the aggregation as a file.
export async function fetchAggregation(lists, pool) {
  const address = new URL(`aggregation/${encodeURIComponent(pool)}`, lists);
  const answer = await firstOf([address, new URL(`${address.href}.json`)], getJson);
  const uris = answer.status_lists;
  if (!Array.isArray(uris) || !uris.every((uri) => typeof uri === 'string')) {
    throw new Problem('No aggregation', `${address.href} sent JSON without an array \`status_lists\` of strings.`);
  }
  return uris;
}

// Fetches the token at `uri`, unchanged. Tries file names only in our own folder of lists, which may be on a static host.
export async function fetchToken(uri, lists) {
  const address = addressOf(uri);
  const isOurs = address.href.startsWith(lists.href);
  const addresses = isOurs ? ['', '.jwt', '.cwt'].map((extension) => new URL(address.href + extension)) : [address];
  return firstOf(addresses, async (url) => {
    const response = await get(url, ACCEPT);
    const body = await read(response, TOKEN_BYTES_MAX);
    return {
      bytes: body,
      mediaType: mediaTypeOf(response),
      etag: response.headers.get('etag'),
      url: response.url,
      fetchedAt: Date.now() / 1000,
      // The bytes that came over the wire, if the browser tells.
      encodedBytes: performance.getEntriesByName(response.url, 'resource').at(-1)?.encodedBodySize || undefined,
    };
  });
}

// Fetches the keys beside the list: `{ url, keys }`, or `{ url, problem }`.
export async function fetchKeys(uri) {
  const url = new URL('jwks.json', addressOf(uri));
  try {
    return usableKeys(await getJson(url), url.href);
  } catch (problem) {
    return { url: url.href, problem: problem.message };
  }
}

export function addressOf(uri) {
  let address;
  try {
    address = new URL(uri);
  } catch {
    throw new Problem('Not a uri', 'A `uri` is a complete address, such as https://status.example/lists/….');
  }
  if (!['https:', 'http:'].includes(address.protocol)) {
    throw new Problem('Not a uri for this page', `Only https and http can be fetched here, not ${address.protocol}`);
  }
  if (address.username || address.password) {
    throw new Problem('Not a uri for this page', 'A `uri` must not hold a user name or password: lists are public.');
  }
  return address;
}

async function getJson(url) {
  const response = await get(url, 'application/json');
  const body = await read(response, JSON_BYTES_MAX);
  try {
    return JSON.parse(new TextDecoder().decode(body)) ?? {};
  } catch {
    throw new Problem('Not JSON', `${url.href} did not answer JSON.`);
  }
}

async function firstOf(addresses, attempt) {
  let first;
  for (const address of addresses) {
    try {
      return await attempt(address);
    } catch (problem) {
      first ??= problem;
      // A server that sends errors in our format also knows its lists, so another name would not help.
      if (!problem.missing || problem.final) throw first;
    }
  }
  throw first;
}

async function get(url, accept) {
  let response;
  try {
    response = await fetch(url, {
      headers: { Accept: accept },
      cache: 'no-cache',
      credentials: 'omit',
      mode: 'cors',
      referrerPolicy: 'no-referrer',
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch (error) {
    throw Object.assign(await unreachable(url, error), { unanswered: true });
  }
  if (response.ok && mediaTypeOf(response) !== 'text/html') return response;
  throw await refused(url, response);
}

async function unreachable(url, error) {
  if (error.name === 'TimeoutError') {
    return new Problem('No answer in time', `${url.origin} did not answer within ${TIMEOUT_MS / 1000} s. It may be overloaded: try again later.`);
  }
  if (!navigator.onLine) {
    return new Problem('You are offline', `This browser has no connection to a network, so ${url.host} could not be asked. Connect, then fetch again.`);
  }
  if (location.protocol === 'https:' && url.protocol === 'http:') {
    return new Problem('Blocked by the browser', 'This page came over https, and browsers then fetch nothing over http. Open the page over http.');
  }
  if (url.origin === location.origin) {
    return new Problem('The server does not answer', `No answer from ${url.origin}, where this page came from. It may be down: try again later, or tell its operator.`);
  }
  if (await answersAnybody(url)) {
    return new Problem('Not for other pages', `${url.origin} answers, but does not allow other pages to read it (CORS). Look for an explorer on that server, or use \`statuslist check\`.`);
  }
  return new Problem('The server does not answer', `No answer from ${url.origin}. It may be down, or the \`uri\` wrong: check that, then try again later. If other programs reach it, it does not allow other pages to read it (CORS).`);
}

// Whether there is a server: a browser does not say why it withheld an answer. Nothing of this answer can be read either.
async function answersAnybody(url) {
  const stop = new AbortController();
  try {
    await fetch(url, { mode: 'no-cors', cache: 'no-store', credentials: 'omit', referrerPolicy: 'no-referrer', signal: AbortSignal.any([stop.signal, AbortSignal.timeout(TIMEOUT_MS)]) });
    return true;
  } catch {
    return false;
  } finally {
    stop.abort();
  }
}

async function refused(url, response) {
  const missing = response.status === 404 || response.ok;
  let said = '';
  if (mediaTypeOf(response).endsWith('json')) {
    try {
      said = JSON.parse(new TextDecoder().decode(await read(response, 65536))).message ?? '';
    } catch {
      // Its status says enough.
    }
  }
  const answer = response.ok ? 'answered a web page instead' : `answered ${response.status}`;
  const [title, advice] = adviceFor(response);
  const problem = new Problem(
    title,
    `${url.href} ${answer}${said === '' ? '.' : `: ${String(said).slice(0, 300).replace(/\.$/, '')}.`} ${advice}`,
    missing,
  );
  problem.final = said !== '';
  return problem;
}

function adviceFor({ ok, status }) {
  if (ok) return ['Not a list', 'Check the `uri`: it must be exactly that of the credential.'];
  if (status === 404) return ['Not there', 'Check the `uri`: it must be exactly that of the credential.'];
  if (status === 410) return ['No longer there', 'The list was retired, so its credentials have no status any more.'];
  if (status === 429) return ['Asked too often', 'Wait a minute, then fetch again.'];
  if (status >= 500) return ['The server has a problem', 'The `uri` may be right: try again in some minutes, then tell the server’s operator.'];
  return ['The server refused', 'Lists are public, so this is for the server’s operator to correct, unless the `uri` is wrong.'];
}

async function read(response, bytesMax) {
  const chunks = [];
  let length = 0;
  try {
    const reader = response.body.getReader();
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      length += part.value.length;
      if (length > bytesMax) {
        await reader.cancel();
        break;
      }
      chunks.push(part.value);
    }
  } catch {
    throw new Problem('Cut off', `The answer of ${response.url} was interrupted at ${instant(Date.now() / 1000)}. Try again.`);
  }
  if (length > bytesMax) throw new Problem('Too large', `${response.url} has more than ${bytes(bytesMax)}, so reading was stopped.`);
  const whole = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  return whole;
}

function mediaTypeOf(response) {
  return (response.headers.get('content-type') ?? '').split(';')[0].trim().toLowerCase();
}
