// A pool as the world sees it: fetches its published lists, as far as that is light, and counts their entries. Verifies nothing.
import { StatusList, inflate } from './list.js';
import { fetchAggregation, fetchToken } from './site.js';
import { readToken } from './token.js';

const LISTS_MAX = 50;
const AT_A_TIME = 4;
const REVOKED = 1;
const SUSPENDED = 2;

export class Pool {
  // What was counted, by the list's `uri`: `{ etag, facts }`. A list is inflated and counted again only when its token is another.
  #counted = new Map();

  constructor(lists, pool) {
    Object.assign(this, { lists, pool });
  }

  // Fetches what has changed; the browser sends `If-None-Match`. Throws if nothing can be fetched.
  async refresh() {
    const all = await fetchAggregation(this.lists, this.pool);
    const wanted = all.slice(0, LISTS_MAX);
    for (const uri of this.#counted.keys()) {
      if (!wanted.includes(uri)) this.#counted.delete(uri);
    }
    const [waiting, facts, problems] = [[...wanted], [], []];
    const worker = async () => {
      for (let uri = waiting.shift(); uri !== undefined; uri = waiting.shift()) {
        try {
          facts.push(await this.#factsOf(uri));
        } catch (problem) {
          problems.push(problem);
        }
      }
    };
    await Promise.all(Array.from({ length: AT_A_TIME }, worker));
    if (wanted.length > 0 && facts.length === 0) throw problems[0];
    const sum = (name) => facts.reduce((together, one) => together + one[name], 0);
    return {
      lists: all.length,
      wanted: wanted.length,
      counted: facts.length,
      entries: sum('entries'),
      revoked: sum('revoked'),
      suspended: sum('suspended'),
      maySuspend: facts.some(({ bits }) => bits > 1),
      iat: Math.max(...facts.map(({ iat }) => iat)),
      exp: Math.min(...facts.map(({ exp }) => exp)),
      at: Date.now() / 1000,
    };
  }

  async #factsOf(uri) {
    const fetched = await fetchToken(uri, this.lists);
    const known = this.#counted.get(uri);
    if (known !== undefined && fetched.etag !== null && known.etag === fetched.etag) return known.facts;
    const { claims, lst } = readToken(fetched.bytes, fetched.mediaType);
    const { entries, counts, bits } = new StatusList(await inflate(lst()), claims.bits);
    const facts = { entries, bits, revoked: counts[REVOKED], suspended: counts[SUSPENDED] ?? 0, iat: claims.iat, exp: claims.exp ?? Infinity };
    this.#counted.set(uri, { etag: fetched.etag, facts });
    return facts;
  }
}
