// Common to both token formats: claims in whole seconds, and members that must have a certain type if they are present.

// A time may have a fraction; only the second counts, as in `statuslist check`.
export function time(value) {
  return typeof value === 'number' ? Math.floor(value) : value;
}

// A `ttl` is a positive number, so a `ttl` below a second is valid too. It counts as one second.
export function lifetime(value) {
  return typeof value === 'number' && value > 0 ? Math.max(1, Math.floor(value)) : value;
}

export const isText = (value) => typeof value === 'string';

// The names of those members that are present, but of the wrong type: `{ name: [value, isOfItsType] }`.
export function flaws(members) {
  return Object.entries(members).filter(([, [value, isGood]]) => value !== undefined && !isGood(value)).map(([name]) => name);
}
