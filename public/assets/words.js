// Numbers and times in words, the same everywhere on the page. Times are UTC, as in tokens.

const whole = new Intl.NumberFormat('en');

export const count = (number) => whole.format(number);

export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

export const instant = (secs) => {
  const date = new Date(secs * 1000);
  return Number.isNaN(date.valueOf()) ? `${secs} (no date)` : `${date.toISOString().slice(0, 19).replace('T', ' ')} UTC`;
};

const UNITS = [['d', 86400], ['h', 3600], ['min', 60], ['s', 1]];

// The two largest units: `3 h 20 min`.
export const span = (secs) => {
  let rest = Math.max(0, Math.round(secs));
  const parts = [];
  for (const [name, length] of UNITS) {
    const amount = Math.floor(rest / length);
    rest -= amount * length;
    if (amount > 0 || (name === 's' && parts.length === 0)) parts.push(`${count(amount)} ${name}`);
    if (parts.length === 2) break;
  }
  return parts.join(' ');
};

export const bytes = (amount) => {
  if (amount < 10_000) return `${count(Math.round(amount))} B`;
  const [size, unit] = amount < 1 << 20 ? [amount / 1024, 'KiB'] : [amount / (1 << 20), 'MiB'];
  return `${size.toFixed(size < 100 ? 1 : 0)} ${unit}`;
};

// Never 0 % for something that is present, never 100 % if something else is.
export const share = (part, of) => {
  if (part === 0 || part === of) return part === 0 ? '0 %' : '100 %';
  const percent = (100 * part) / of;
  if (percent < 0.01) return '< 0.01 %';
  if (percent > 99.99) return '> 99.99 %';
  return `${percent.toFixed(percent < 1 || percent > 99 ? 2 : 1)} %`;
};
