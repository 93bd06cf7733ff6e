import type { GuestHttpRequest } from './wasi/http.ts';

interface HttpEvent {
  readonly trigger: 'http';
  readonly url: string;
  readonly method: string;
  readonly headers: Readonly<Record<string, string | readonly string[]>>;
  readonly body: unknown;
  readonly isBase64Encoded?: boolean;
}

/** What a component that only knows requests gets of every other event: it is posted. */
const EVENT_URL = 'http://postern.internal/';

/**
 * The request that came, from the event of an HTTP trigger as JSON text. bodyAt: where a JSON body stands in it, so that the
 * guest gets the bytes that were sent; negative where it is none.
 */
export function requestFromEvent(json: string, bodyAt: number): GuestHttpRequest {
  const event = JSON.parse(json) as HttpEvent;
  if (event === null || typeof event !== 'object' || event.trigger !== 'http' || !URL.canParse(event.url)) {
    const headers = [['content-type', 'application/json']] as const;
    return { method: 'POST', url: new URL(EVENT_URL), headers, body: Buffer.from(json) };
  }
  const headers = Object.entries(event.headers).flatMap(([name, value]) =>
    [value].flat().map((one) => [name, one] as const),
  );
  return { method: event.method, url: new URL(event.url), headers, body: bodyOf(event, json, bodyAt) };
}

function bodyOf({ body, isBase64Encoded }: HttpEvent, json: string, bodyAt: number): Uint8Array {
  if (bodyAt >= 0) return Buffer.from(json.slice(bodyAt, -1));
  if (body === null || body === undefined) return new Uint8Array();
  if (typeof body !== 'string') return Buffer.from(JSON.stringify(body));
  return Buffer.from(body, isBase64Encoded === true ? 'base64' : 'utf8');
}
