/** The Request that a `fetch` handler gets, from the event of an HTTP trigger. */

import type { InvocationMeta } from './context.ts';
import { type Request, requestFrom } from './web/index.ts';

/** The event of an HTTP trigger, as SPEC 3 has it. */
export interface HttpEvent {
  readonly trigger: 'http';
  readonly url: string;
  readonly method: string;
  readonly headers: Record<string, string>;
  readonly body: unknown;
  readonly isBase64Encoded?: boolean;
}

export function requestFromEvent(event: HttpEvent, eventJson: string, meta: InvocationMeta): Request {
  return requestFrom(
    event.url,
    event.method,
    Object.entries(event.headers),
    bodyText(event, eventJson, meta),
    event.isBase64Encoded,
  );
}

/** A JSON body is taken from the event's own text, so that the handler sees the bytes that the caller sent. */
function bodyText(event: HttpEvent, eventJson: string, meta: InvocationMeta): string | null {
  if (event.body === null && meta.bodyAt < 0) return null;
  if (meta.bodyAt >= 0) return eventJson.slice(meta.bodyAt, -1);
  return typeof event.body === 'string' ? event.body : JSON.stringify(event.body);
}
