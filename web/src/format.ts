// Numbers as people read them.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** 98362432 is "93.8 MiB". */
export function bytes(n: number): string {
  let unit = 0;
  while (n >= 1024 && unit < UNITS.length - 1) {
    n /= 1024;
    unit++;
  }
  return `${unit === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)} ${UNITS[unit]}`;
}

/** 134515008 is "135 M". */
export function count(n: number): string {
  if (n >= 1e9) return `${(n / 1e9).toFixed(1)} B`;
  if (n >= 1e6) return `${Math.round(n / 1e6)} M`;
  return n >= 1e3 ? `${Math.round(n / 1e3)} k` : String(n);
}

/** 75 is "1 min 15 s". */
export function seconds(n: number): string {
  if (n < 10) return `${n.toFixed(n < 1 ? 2 : 1)} s`;
  const whole = Math.round(n);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

/** 4096 is "4,096". */
export const integer = (n: number) => n.toLocaleString("en-US");
