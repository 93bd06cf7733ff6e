/** What the schemes have in common: all of them are an HMAC-SHA256 over a few characters and the body as it came. */

/** `headersDistinct` of Node: lower-case names, every value that came under one. */
export type DistinctHeaders = Readonly<NodeJS.Dict<string[]>>;

/** What a request says about itself, in the scheme's own form. Nothing of it is true before the signature was checked. */
export interface Claim {
  /** What is signed in front of the body. */
  readonly prefix: string;
  /** Digests that the sender gives: any of them may be the right one. 1 to `MAX_SIGNATURES`, 32 bytes each. */
  readonly signatures: readonly Buffer[];
  /** The delivery's id, where a header has it. */
  readonly id?: string;
}

export interface WebhookScheme {
  /** Undefined for a secret that can't be one of this scheme. */
  keyOf(secret: string): Buffer | undefined;
  /** Undefined for what is not exactly in the scheme's form, or too old or too new. Must not look at the body. */
  claimOf(headers: DistinctHeaders, nowSeconds: number): Claim | undefined;
  /** The delivery's id, where the body has it. Called with what was verified only. */
  idIn?(body: Readonly<Record<string, unknown>>): string | undefined;
  /** What the sender wants to read back before he sends events; no function runs for it. */
  challengeIn?(body: Readonly<Record<string, unknown>>): string | undefined;
}

/** Of a list of signatures, so many are tried (WH-07). Publishers send one a secret, and rotate between two. */
export const MAX_SIGNATURES = 8;
/** As Stripe, Slack and Standard Webhooks have it, in both directions. */
export const TOLERANCE_SECONDS = 300;

const HEX_DIGEST = /^[0-9a-f]{64}$/;
/** 32 bytes are 43 digits and one of padding; that the spare bits are zero is checked by writing it again. */
const BASE64_DIGEST = /^[A-Za-z0-9+/]{43}=$/;
/** Seconds, ten digits: from 2001 to 2286. No sign, no fraction, no exponent, no milliseconds (WH-03). */
const TIMESTAMP = /^[0-9]{10}$/;
/** Visible ASCII without a dot: Standard Webhooks signs `id.timestamp.body`, and an id with a dot could move the border. */
const ID = /^[!-\-/-~]{1,200}$/;

/** The header's value if it came once. Two are nobody's form, and readers differ in which they take. */
export function single(headers: DistinctHeaders, name: string): string | undefined {
  const values = headers[name];
  return values?.length === 1 ? values[0] : undefined;
}

/** `Buffer.from` would read as far as it understands (WH-01). */
export function hexDigest(text: string | undefined): Buffer | undefined {
  return text !== undefined && HEX_DIGEST.test(text) ? Buffer.from(text, 'hex') : undefined;
}

export function base64Digest(text: string | undefined): Buffer | undefined {
  if (text === undefined || !BASE64_DIGEST.test(text)) return undefined;
  const bytes = Buffer.from(text, 'base64');
  return bytes.toString('base64') === text ? bytes : undefined;
}

/** The text of a timestamp that is now, give or take the tolerance. */
export function currentTimestamp(text: string | undefined, nowSeconds: number): string | undefined {
  if (text === undefined || !TIMESTAMP.test(text)) return undefined;
  return Math.abs(nowSeconds - Number(text)) <= TOLERANCE_SECONDS ? text : undefined;
}

export function isDeliveryId(text: unknown): text is string {
  return typeof text === 'string' && ID.test(text);
}

/** `{ id }` of the first of these headers that came, `{}` where none did, undefined where it is no id. */
export function headerId(headers: DistinctHeaders, ...names: readonly string[]): { id?: string } | undefined {
  const name = names.find((one) => headers[one] !== undefined);
  if (name === undefined) return {};
  const id = single(headers, name);
  return isDeliveryId(id) ? { id } : undefined;
}
