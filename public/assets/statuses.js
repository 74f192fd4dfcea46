// The meaning of the numbers in a list ("Status Types Values"), and their look. Colour is never alone: each has a name and a glyph.

const NAMES = { 0: 'VALID', 1: 'INVALID', 2: 'SUSPENDED' };
const APPLICATION_SPECIFIC = [3, 12, 13, 14, 15];

export const hex = (value) => `0x${value.toString(16).padStart(2, '0')}`;

export function name(value) {
  if (value in NAMES) return NAMES[value];
  return `${APPLICATION_SPECIFIC.includes(value) ? 'APPLICATION' : 'UNREGISTERED'} ${hex(value)}`;
}

// The custom property of style.css that has its colour.
export function colour(value) {
  return value in NAMES || APPLICATION_SPECIFIC.includes(value) ? `--status-${value}` : '--status-other';
}

export function glyph(value) {
  return { 0: '', 1: '×', 2: '‖' }[value] ?? value.toString(16);
}
