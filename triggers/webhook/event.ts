/** The event of a webhook trigger (SPEC 3) as JSON text, without its id and attempt. */

import type { IncomingHttpHeaders } from 'node:http';
import { PosternError } from '../../runtime/index.ts';
import { checkedJson, type EventBody, eventBody } from '../http/body.ts';

/** They speak to the server or a proxy before it, and an event may wait in the database for days. */
const CREDENTIALS: readonly string[] = ['authorization', 'cookie', 'proxy-authorization'];

/** Throws INVALID_BODY for a body that is said to be JSON and is not. */
export function webhookEvent(headers: IncomingHttpHeaders, body: Buffer, deliveryId: string, receivedAt: Date): string {
  const shown = Object.fromEntries(Object.entries(headers).filter(([name]) => !CREDENTIALS.includes(name)));
  const { json, isBase64Encoded } = bodyOf(headers, body);
  return (
    `{"trigger":"webhook","headers":${JSON.stringify(shown)},"body":${json}` +
    (isBase64Encoded ? ',"isBase64Encoded":true' : '') +
    `,"timestamp":"${receivedAt.toISOString()}","delivery_id":${JSON.stringify(deliveryId)}}`
  );
}

/** As `eventJson` of triggers/database ends one that comes through the outbox. */
export function attemptedEvent(json: string, eventId: string, attempt: number): string {
  return `${json.slice(0, -1)},"event_id":"${eventId}","attempt":${attempt}}`;
}

/** Senders that name no type send JSON. A compressed body stays as it was signed: base64. */
function bodyOf(headers: IncomingHttpHeaders, bytes: Buffer): EventBody {
  const { 'content-type': type, 'content-encoding': encoding } = headers;
  if (type === undefined && encoding === undefined && bytes.length > 0) {
    try {
      return { json: checkedJson(bytes), isBase64Encoded: false, isJson: true };
    } catch (error) {
      if (!(error instanceof PosternError)) throw error;
    }
  }
  return eventBody(bytes, type, encoding);
}
