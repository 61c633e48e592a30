// Numbers in words.

const english = (options) => new Intl.NumberFormat("en", options);
export const count = (value) => english().format(value);
export const compact = (value) => english({ notation: "compact", maximumSignificantDigits: 3 }).format(value);

export function number(value, digits = 3) {
  if (!Number.isFinite(value)) return "not finite";
  const size = Math.abs(value);
  if (size !== 0 && size < 1e-5) return value.toExponential(digits - 1).replace("-", "−").replace("e−", "e-");
  const decimals = Math.max(0, digits - 1 - Math.floor(Math.log10(size || 1)));
  return english({ minimumFractionDigits: decimals, maximumFractionDigits: decimals }).format(value).replace("-", "−");
}

/** Both numbers, with as many digits as it takes to tell them apart. */
export function apart(a, b) {
  let digits = 3;
  while (digits < 8 && a !== b && number(a, digits) === number(b, digits)) digits++;
  return [number(a, digits), number(b, digits)];
}

/** Rounded down, so that nothing but certainty reads 100%. */
export function percent(share) {
  if (!Number.isFinite(share)) return "an unknown probability";
  if (share > 0 && share < 0.001) return "less than 0.1%";
  return `${Math.floor(share * 1000 + 1e-6) / 10}%`;
}

/** Rounded up, so that what is promised is true. */
export const atMost = (share) => `${Math.ceil(share * 1000 - 1e-6) / 10}%`;

/** A p-value, of n calibration images. */
export function inWords(p, n) {
  if (!Number.isFinite(p)) return "";
  if (n && p < 1.5 / (n + 1)) return `None of the ${count(n)} known images of the calibration look this unusual.`;
  if (p >= 0.995) return "Nearly every known image looks this unusual or more so.";
  let of = 100;
  while (p * of < 2.95 && of < 1e6) of *= 10;
  return `About ${count(Math.max(1, Math.round(p * of)))} in ${count(of)} known images look this unusual or more so.`;
}
