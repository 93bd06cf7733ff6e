/** The `Range` header of RFC 9110, as far as it asks for one range of bytes. */

export interface ByteRange {
  readonly start: number;
  /** Behind the last byte. */
  readonly end: number;
}

const ONE_RANGE = /^bytes=(?:(\d{1,15})-(\d{0,15})|-(\d{1,15}))$/i;

/** `unsatisfiable` for 416. What is no range, or several, is not looked at, as the RFC lets a server: all of it. */
export function byteRange(header: string | undefined, bytes: number): ByteRange | 'all' | 'unsatisfiable' {
  const match = header === undefined ? null : ONE_RANGE.exec(header.trim());
  if (match === null) return 'all';
  const [, first, last, suffix] = match;
  if (suffix !== undefined) {
    const length = Math.min(Number(suffix), bytes);
    return length === 0 ? 'unsatisfiable' : { start: bytes - length, end: bytes };
  }
  const start = Number(first);
  const end = last === '' ? bytes : Math.min(Number(last) + 1, bytes);
  if (last !== '' && Number(last) < start) return 'all';
  return start >= bytes ? 'unsatisfiable' : { start, end };
}
