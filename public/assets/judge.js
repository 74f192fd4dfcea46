// Token, signature, time and index → checks and a verdict ("Validation Rules"). No network, no clock of its own.
//
// Invariant: a list is unpacked only after every other check, and a verdict that names a status as the list's own comes
// only from a token that passed them all.
import { LIST_BYTES_MAX, StatusList, inflate } from './list.js';
import { name } from './statuses.js';
import { ALLOWED, isAllowed, verify } from './verify.js';
import { count, instant, plural, span } from './words.js';

// How far the issuer's clock may be ahead of ours.
const LEEWAY_SECS = 60;

// The checks that need to run only once for a fetched token and a `uri`. Later questions may differ in time and index.
export async function examine(token, mediaType, uri, keys, now) {
  const examined = { token, mediaType, uri, signature: await verify(token, keys) };
  if (firstFailure(tokenChecks(examined, now)) === undefined) {
    try {
      examined.list = new StatusList(await inflate(token.lst(), LIST_BYTES_MAX), token.claims.bits);
    } catch (error) {
      examined.listProblem = error.message;
    }
  }
  return examined;
}

// Returns `{ checks, verdict }` for the index, or for the whole list if there is none.
export function judge(examined, idx, now) {
  const checks = [...tokenChecks(examined, now), listCheck(examined)];
  // A list that was not unpacked stays absent, even if the reason has passed by now.
  const { list } = examined;
  const failed = firstFailure(checks) ?? checks.find((check) => check.state === 'skip');
  // In an empty list every index is outside, which is an answer about the credential.
  const failure = failed?.id === 'lst' && list?.entries === 0 && idx !== undefined ? undefined : failed;
  if (failure === undefined && idx !== undefined) checks.push(indexCheck(list, idx));
  return { checks, verdict: verdictOf(examined, failure, idx) };
}

function verdictOf({ list, signature }, failure, idx) {
  if (failure !== undefined) {
    return {
      kind: 'refused',
      title: 'Do not rely on this list',
      why: `${failure.label}: ${failure.detail}. A verifier must treat the credential as if it had no status, and should reject it.`,
    };
  }
  const unverified = signature.state === 'unable';
  if (idx !== undefined && idx >= list.entries) {
    const why = `The list has ${plural(list.entries, 'entry', 'entries')}, and index ${count(idx)} is not one of them. A credential with such a reference must be rejected.`;
    return unverified ? notVerified(signature, why) : { kind: 'outside', title: 'No such entry', why };
  }
  const status = idx === undefined ? undefined : name(list.at(idx));
  if (unverified) {
    return notVerified(signature, status && `The unverified list has ${status} at index ${count(idx)}; anybody could have written that.`);
  }
  if (idx === undefined) {
    return {
      kind: 'list',
      title: 'Verified list',
      why: `All checks passed for ${plural(list.entries, 'entry', 'entries')}. Choose an index in the picture, or enter one.`,
    };
  }
  const kinds = { VALID: 'valid', INVALID: 'invalid', SUSPENDED: 'suspended' };
  const whys = {
    VALID: `Index ${count(idx)} has not been revoked. The credential’s own rules, its signature and its own expiry, still have to hold.`,
    INVALID: `The issuer has revoked index ${count(idx)}. The credential must be rejected.`,
    SUSPENDED: `The issuer has suspended index ${count(idx)}. The credential must be rejected until that changes.`,
  };
  return {
    kind: kinds[status] ?? 'other',
    title: status,
    why: whys[status] ?? `Index ${count(idx)} is not VALID. The issuer defines what this value means.`,
  };
}

function notVerified(signature, more = '') {
  return { kind: 'unverified', title: 'Not verified', why: `The signature could not be checked: ${signature.detail}. ${more}`.trim() };
}

function firstFailure(checks) {
  return checks.find((check) => check.state === 'fail');
}

function tokenChecks({ token, mediaType, uri, signature }, now) {
  const { claims } = token;
  const checks = [];
  const add = (id, label, passes, detail) => checks.push({ id, label, state: passes ? 'pass' : 'fail', detail });

  const wanted = `application/statuslist+${token.format.toLowerCase()}`;
  if (mediaType !== wanted) {
    checks.push({ id: 'served', label: 'Media type', state: 'note', detail: `served as ${shown(mediaType || undefined)}, must be ${shown(wanted)}: some verifiers refuse that` });
  }
  add('typ', 'Type', token.typ === token.wantedTyp, `\`typ\` is ${shown(token.typ)}${token.typ === token.wantedTyp ? '' : `, must be ${shown(token.wantedTyp)}`}`);
  if (token.crit !== undefined) add('crit', 'Extensions', false, '`crit` names extensions that a reader must understand, and this page knows none');
  add('alg', 'Algorithm', isAllowed(token.alg), `\`alg\` is ${shown(token.alg)}${isAllowed(token.alg) ? '' : `, allowed are ${ALLOWED.join(', ')}`}`);
  for (const member of token.flaws) add(member, 'Form', false, `\`${member}\` is missing or of the wrong type`);
  checks.push({ id: 'signature', label: 'Signature', ...signature });
  add('sub', 'Subject', claims.sub === uri, claims.sub === uri
    ? '`sub` equals the `uri`, character by character'
    : `the token is for another list: its \`sub\` is ${shown(claims.sub)}`);
  checks.push(...timeChecks(claims, now));
  if (!token.flaws.includes('status_list')) add('bits', 'Bits', [1, 2, 4, 8].includes(claims.bits), `${shown(claims.bits)} per entry${[1, 2, 4, 8].includes(claims.bits) ? '' : ', must be 1, 2, 4 or 8'}`);
  return checks;
}

function timeChecks({ iat, nbf, exp, ttl }, now) {
  const checks = [];
  const add = (id, label, passes, detail) => checks.push({ id, label, state: passes ? 'pass' : 'fail', detail });
  if (!isTime(iat)) {
    add('iat', 'Issued', false, `\`iat\` must be seconds since 1970, is ${shown(iat)}`);
  } else {
    const ahead = iat - now;
    add('iat', 'Issued', ahead <= LEEWAY_SECS, ahead > LEEWAY_SECS
      ? `${instant(iat)} is ${span(ahead)} ahead of now; compare the clocks here and at the issuer`
      : `${instant(iat)}, ${span(-ahead)} ago`);
  }
  if (nbf !== undefined) {
    add('nbf', 'Not before', isTime(nbf) && nbf <= now + LEEWAY_SECS, isTime(nbf) ? instant(nbf) : `\`nbf\` is ${shown(nbf)}`);
  }
  if (exp === undefined) {
    checks.push({ id: 'exp', label: 'Expires', state: 'note', detail: 'the token names no `exp`, so an old one can be replayed for ever' });
  } else if (!isTime(exp)) {
    add('exp', 'Expires', false, `\`exp\` must be seconds since 1970, is ${shown(exp)}`);
  } else if (isTime(iat) && exp <= iat) {
    add('exp', 'Expires', false, '`exp` must be later than `iat`');
  } else {
    add('exp', 'Expires', exp > now, exp > now ? `in ${span(exp - now)}, at ${instant(exp)}` : `it expired ${span(now - exp)} ago, at ${instant(exp)}`);
  }
  if (ttl === undefined) {
    checks.push({ id: 'ttl', label: 'Time to live', state: 'note', detail: 'none given: a copy may be kept until `exp`' });
  } else {
    const good = Number.isFinite(ttl) && ttl > 0;
    add('ttl', 'Time to live', good, good ? `a fetched copy may be used for ${span(ttl)}` : `\`ttl\` must be positive, is ${shown(ttl)}`);
  }
  return checks;
}

function listCheck({ list, listProblem }) {
  const check = { id: 'lst', label: 'List' };
  if (list?.entries > 0) return { ...check, state: 'pass', detail: `unpacks to ${plural(list.entries, 'entry', 'entries')}` };
  if (list) return { ...check, state: 'fail', detail: '`lst` is empty, so every index is outside' };
  if (listProblem) return { ...check, state: 'fail', detail: `\`lst\` ${listProblem}` };
  return { ...check, state: 'skip', detail: 'not unpacked, because a check above failed' };
}

function indexCheck(list, idx) {
  const check = { id: 'idx', label: 'Index' };
  if (list.entries === 0) return { ...check, state: 'fail', detail: 'the list has no entries' };
  return idx < list.entries
    ? { ...check, state: 'pass', detail: `${count(idx)} is one of 0 to ${count(list.entries - 1)}` }
    : { ...check, state: 'fail', detail: `${count(idx)} is beyond ${count(list.entries - 1)}, the last` };
}

function isTime(value) {
  return Number.isFinite(value) && value >= 0;
}

function shown(value) {
  if (value === undefined) return 'missing';
  if (typeof value === 'number') return String(value);
  const text = typeof value === 'string' ? value : JSON.stringify(value, (_, member) => (typeof member === 'bigint' ? String(member) : member));
  return `“${text.length > 120 ? `${text.slice(0, 120)}…` : text}”`;
}
