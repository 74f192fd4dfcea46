// The language of the status page, chosen by the browser, and its numbers and times.
import de from './texts/de.js';
import en from './texts/en.js';

const TEXTS = { de, en };

// The first of the reader's languages that the page has.
export const language = navigator.languages.map((tag) => tag.toLowerCase().split('-')[0]).find((tag) => Object.hasOwn(TEXTS, tag)) ?? 'en';

export const text = (key, values = {}) => TEXTS[language][key].replaceAll(/\{(\w+)\}/g, (_, name) => values[name]);

// As the reader writes them, with the order and the separators of the region, too.
const locale = navigator.languages.find((tag) => tag.toLowerCase().split('-')[0] === language) ?? language;
const whole = new Intl.NumberFormat(locale);
const percent = new Intl.NumberFormat(locale, { style: 'percent', maximumFractionDigits: 2 });
const dateTime = new Intl.DateTimeFormat(locale, { dateStyle: 'medium', timeStyle: 'medium' });
const clockTime = new Intl.DateTimeFormat(locale, { timeStyle: 'medium' });

export const count = (number) => whole.format(number);

// Never 0 % for something that is present, never 100 % if something else is.
export const share = (part, of) => {
  if (of === 0 || part === 0) return percent.format(0);
  const exact = part / of;
  if (exact < 0.0001) return `< ${percent.format(0.0001)}`;
  return exact > 0.9999 && part < of ? `> ${percent.format(0.9999)}` : percent.format(exact);
};

const asDate = (secs) => new Date(secs * 1000);
export const instant = (secs) => dateTime.format(asDate(secs));
export const clock = (secs) => clockTime.format(asDate(secs));

const UNITS = [['day', 86400], ['hour', 3600], ['minute', 60], ['second', 1]];

export const span = (secs) => {
  const rounded = Math.max(0, Math.round(secs));
  const [unit, length] = UNITS.find(([, unitLength]) => rounded >= unitLength * 2) ?? UNITS.at(-1);
  return new Intl.NumberFormat(locale, { style: 'unit', unit, unitDisplay: 'long', maximumFractionDigits: 0 }).format(rounded / length);
};
