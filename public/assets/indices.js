// An index as people write it → the number. Digits may stand in groups of three.

// Of any width, and unbreakable: spreadsheets and web pages use them all.
const SPACES = /[\u00a0\u2007\u2009\u202f]/g;
const GROUPS = /^[1-9]\d{0,2}([ ,_'’])\d{3}(?:\1\d{3})*$/;

// Returns undefined if there is none; throws with what to do.
export function readIndex(text) {
  const typed = text.trim().replaceAll(SPACES, ' ');
  if (typed === '') return undefined;
  // In some languages the dot stands between groups, in others before a fraction.
  if (/^\d{1,3}(?:\.\d{3})+$/.test(typed)) {
    throw new Error(`\`${typed}\` can mean two numbers. Write it without the dot: \`${typed.replaceAll('.', '')}\`.`);
  }
  const idx = /^\d+$/.test(typed) || GROUPS.test(typed) ? Number(typed.replaceAll(/\D/g, '')) : NaN;
  if (Number.isSafeInteger(idx)) return idx;
  const hint = /^\d[\d ,_'’]*$/.test(typed) && Number.isNaN(idx) ? ' Its digits may be in groups of three, as in `1,000`.' : '';
  throw new Error(`An index is a whole number, 0 or greater.${hint}`);
}
