// The settings of a run: from the environment (-e NAME=value), with defaults for a service on this machine.

const env = (name, or) => (__ENV[name] === undefined || __ENV[name] === '' ? or : __ENV[name]);
const withoutSlash = (url) => url.replace(/\/+$/, '');

export const API = withoutSlash(env('API', 'http://localhost:8090'));
export const SITE = withoutSlash(env('SITE', `${API}/lists`));
export const POOL = env('POOL', 'demo');
export const API_KEY = env('API_KEY', '');
export const BEAT = Number(env('BEAT', '10'));
// The limits of the thresholds: for answers in milliseconds, and until an update is visible in seconds.
export const P99 = Number(env('P99', '1000'));
export const FRESH_WITHIN = Number(env('FRESH_WITHIN', String(BEAT + 1)));
// The share of requests of a fixed rate that k6 may drop because its machine is too slow.
export const DROPPED = Number(env('DROPPED', '0.01'));
export const SUMMARY = env('SUMMARY', '');

export const vus = (or) => Number(env('VUS', or));
export const duration = (or) => env('DURATION', or);
export const number = (name, or) => Number(env(name, or));

// One of these words; the first by default.
export function choice(name, ...words) {
  const word = env(name, words[0]);
  if (!words.includes(word)) throw new Error(`${name} is one of ${words.join(', ')}, not ${word}`);
  return word;
}

// The columns of every table; the last ones show what a mean hides.
export const TREND_STATS = ['avg', 'p(50)', 'p(90)', 'p(95)', 'p(99)', 'p(99.9)', 'p(99.99)', 'max'];
