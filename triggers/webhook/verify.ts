/** From a request to a delivery that its sender has signed. Runs for whatever strangers send: no parsing, no database. */

import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { checkedJson } from '../http/body.ts';
import type { Claim, WebhookScheme } from './scheme.ts';

export interface SignedDelivery {
  readonly id: string;
  /** Equal in two deliveries that are the same one. */
  readonly fingerprint: Buffer;
  /** To be answered as it is, and nothing else done. */
  readonly challenge?: string;
}

/** Signs what nobody else signs. */
const DECOY_KEY = randomBytes(32);

/**
 * Whether one of the keys made one of the claim's signatures. Takes as long for no claim and for no key as for a wrong
 * signature, so that the time does not tell which addresses exist (WH-11): one HMAC a key, one at least.
 */
export function isSigned(claim: Claim | undefined, keys: readonly Buffer[], body: Buffer): boolean {
  let signed = false;
  for (const key of keys.length === 0 ? [DECOY_KEY] : keys) {
    const digest = createHmac('sha256', key)
      .update(claim?.prefix ?? '')
      .update(body)
      .digest();
    for (const signature of claim?.signatures ?? []) signed = timingSafeEqual(digest, signature) || signed;
  }
  return signed;
}

/**
 * Names a verified delivery. An id that stands in the body was signed with it, so it alone decides: Stripe sends the same
 * event again with other counters. Where there is no id at all it is a hash of all that was signed.
 */
export function identify(scheme: WebhookScheme, claim: Claim, body: Buffer): SignedDelivery {
  if (claim.id !== undefined) return { id: claim.id, fingerprint: sha256(body) };
  const content = scheme.idIn === undefined ? undefined : parseObject(body);
  const challenge = content && scheme.challengeIn?.(content);
  const id = content && scheme.idIn?.(content);
  const fingerprint = id === undefined ? sha256(claim.prefix, body) : sha256(id);
  return {
    id: id ?? `sha256:${fingerprint.toString('hex')}`,
    fingerprint,
    ...(challenge === undefined ? {} : { challenge }),
  };
}

function sha256(...parts: readonly (string | Buffer)[]): Buffer {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
}

function parseObject(body: Buffer): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(checkedJson(body));
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    // Slack's commands are forms.
    return undefined;
  }
}
