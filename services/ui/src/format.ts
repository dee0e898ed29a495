/** Numbers and times as text. Pure; a dash stands for what is not known. */

export const DASH = '–';
const MINUS = '\u2212';

const fixed = new Map<number, Intl.NumberFormat>();

function decimals(digits: number): Intl.NumberFormat {
  let format = fixed.get(digits);
  if (!format) {
    format = new Intl.NumberFormat('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits });
    fixed.set(digits, format);
  }
  return format;
}

function typographic(text: string): string {
  return text.replace('-', MINUS);
}

/** Decimals that `value` needs to be written exactly, at most `most`. */
export function decimalsOf(value: number, most = 8): number {
  for (let digits = 0; digits < most; digits += 1) {
    const scaled = value * 10 ** digits;
    if (Math.abs(scaled - Math.round(scaled)) < 1e-7 * Math.max(1, Math.abs(scaled) * 1e-7)) return digits;
  }
  return most;
}

export function price(value: number | null, digits: number): string {
  return value === null ? DASH : typographic(decimals(digits).format(value));
}

export function signed(value: number | null, digits: number): string {
  if (value === null) return DASH;
  const text = decimals(digits).format(Math.abs(value));
  if (Number(text.replaceAll(',', '')) === 0) return text;
  return (value < 0 ? MINUS : '+') + text;
}

export function percent(value: number | null): string {
  return value === null ? DASH : `${signed(value, 2)}%`;
}

const UNITS: readonly [number, string][] = [
  [1e12, 'T'],
  [1e9, 'B'],
  [1e6, 'M'],
  [1e3, 'K'],
];

/** A quantity in about three or four figures: 981, 12.4K, 3.07M. */
export function compact(value: number | null): string {
  if (value === null) return DASH;
  for (const [unit, letter] of UNITS) {
    if (Math.abs(value) >= unit * 0.99995) {
      const scaled = value / unit;
      const digits = Math.abs(scaled) >= 99.95 ? 0 : Math.abs(scaled) >= 9.995 ? 1 : 2;
      return typographic(decimals(digits).format(scaled)) + letter;
    }
  }
  return typographic(decimals(Math.min(decimalsOf(value, 4), Math.abs(value) < 10 ? 4 : 1)).format(value));
}

/** A rate per second: one decimal under 100, none above, compact from ten thousand. */
export function rate(value: number | null): string {
  if (value === null) return DASH;
  if (value >= 9999.5) return compact(value);
  return decimals(value >= 99.95 || value === 0 ? 0 : 1).format(value);
}

/** An age: 0.4 s, 12 s, 3 min, 2 h, 5 d. Under 10 s with one decimal, so that it visibly ticks. */
export function age(ms: number | null): string {
  if (ms === null) return DASH;
  const s = Math.max(0, ms) / 1000;
  if (s < 9.95) return `${s.toFixed(1)} s`;
  if (s < 99.5) return `${Math.round(s)} s`;
  if (s < 5970) return `${Math.round(s / 60)} min`;
  if (s < 172_800) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86_400)} d`;
}

/** A delay in ms: 0.8, 12, 1,240. */
export function delay(ms: number | null): string {
  if (ms === null) return DASH;
  return typographic(decimals(Math.abs(ms) < 9.95 ? 1 : 0).format(ms));
}

/** A span as the name of a bar's length: 1 s, 15 s, 1 min, 1 h. */
export function span(s: number): string {
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${s / 60} min`;
  return `${s / 3600} h`;
}

export interface Zone {
  /** hh:mm:ss of a Unix second */
  clock(s: number): string;
  /** hh:mm of a Unix second */
  minutes(s: number): string;
  /** e.g. Mon 3 Nov */
  day(s: number): string;
  /** short name, e.g. UTC or EST */
  label(s: number): string;
  /** local time minus UTC at a Unix second */
  offsetS(s: number): number;
}

/** Clock times in a time zone, as the market's calendar wants them. */
export function zone(name: string): Zone {
  const make = (options: Intl.DateTimeFormatOptions) =>
    new Intl.DateTimeFormat('en-GB', { timeZone: name, hourCycle: 'h23', ...options });
  const clock = make({ hour: '2-digit', minute: '2-digit', second: '2-digit' });
  const minutes = make({ hour: '2-digit', minute: '2-digit' });
  const day = make({ weekday: 'short', day: 'numeric', month: 'short' });
  const label = new Intl.DateTimeFormat('en-US', { timeZone: name, timeZoneName: 'short' });
  const offset = new Intl.DateTimeFormat('en-US', { timeZone: name, timeZoneName: 'longOffset' });
  return {
    offsetS: (s) => {
      const [, sign, h, m] = /GMT([+-])(\d\d):(\d\d)/.exec(offset.format(s * 1000)) ?? [];
      return h === undefined ? 0 : (sign === '-' ? -1 : 1) * (Number(h) * 3600 + Number(m) * 60);
    },
    clock: (s) => clock.format(s * 1000),
    minutes: (s) => minutes.format(s * 1000),
    day: (s) => day.format(s * 1000).replace(',', ''),
    label: (s) => label.formatToParts(s * 1000).find((part) => part.type === 'timeZoneName')?.value ?? name,
  };
}
