/** The event of an HTTP trigger (SPEC 3) as JSON text. Built by hand: it is on the hot path, and the body goes in as it came. */

import type { IncomingHttpHeaders } from 'node:http';
import type { EventBody } from './body.ts';
import type { FunctionTarget } from './paths.ts';

export interface EventParts {
  readonly target: FunctionTarget;
  readonly method: string;
  /** Scheme and authority, e.g. `https://fn.example.com`. */
  readonly origin: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: EventBody;
  readonly userId: string | null;
  readonly requestId: string;
}

export interface HttpEvent {
  readonly json: string;
  /** Where the text of a JSON body starts, up to the last brace: a `fetch` handler's Request has the bytes that came. */
  readonly bodyAt?: number;
}

export function httpEvent(parts: EventParts): HttpEvent {
  const { target, body } = parts;
  const mark = target.query === '' ? '' : `?${target.query}`;
  const head =
    `{"trigger":"http","method":"${parts.method}","path":${JSON.stringify(target.path)}` +
    `,"subpath":${JSON.stringify(target.subpath)},"url":${JSON.stringify(parts.origin + target.path + mark)}` +
    `,"query":${queryJson(target.query)},"headers":${JSON.stringify(parts.headers)}` +
    `,"user_id":${parts.userId === null ? 'null' : JSON.stringify(parts.userId)},"request_id":"${parts.requestId}"` +
    (body.isBase64Encoded ? ',"isBase64Encoded":true,"body":' : ',"body":');
  const json = `${head}${body.json}}`;
  return body.isJson ? { json, bodyAt: head.length } : { json };
}

/** `{"a":"1","b":["2","3"]}`: a name given several times becomes a list. */
export function queryJson(query: string): string {
  if (query === '') return '{}';
  // Without a prototype, so that a parameter called `__proto__` is one like any other.
  const values: Record<string, string | string[]> = Object.create(null);
  for (const [name, value] of new URLSearchParams(query)) {
    const known = values[name];
    if (known === undefined) values[name] = value;
    else if (typeof known === 'string') values[name] = [known, value];
    else known.push(value);
  }
  return JSON.stringify(values);
}
