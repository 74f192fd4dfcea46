// What both formats of a token have in common: claims in whole seconds, and members that must be of one type where they are there.

// A time may have a fraction; what counts is the second, as for `statuslist check`.
export function time(value) {
  return typeof value === 'number' ? Math.floor(value) : value;
}

// A `ttl` is a positive number, so one below a second is a `ttl` as well. Counted in seconds, it is one.
export function lifetime(value) {
  return typeof value === 'number' && value > 0 ? Math.max(1, Math.floor(value)) : value;
}

export const isText = (value) => typeof value === 'string';

// The names of those members that are there, but not of their type: `{ name: [value, isOfItsType] }`.
export function flaws(members) {
  return Object.entries(members).filter(([, [value, isGood]]) => value !== undefined && !isGood(value)).map(([name]) => name);
}
