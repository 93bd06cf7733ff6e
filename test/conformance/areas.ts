import type { Area } from './case.ts';
import { compression } from './cases/compression.ts';
import { base64, encoding } from './cases/encoding.ts';
import { forms, headers, request, response } from './cases/fetch.ts';
import { abort, clone, events, scope, streams, webCrypto } from './cases/platform.ts';
import { url, urlSearchParams } from './cases/url.ts';
import { urlPattern } from './cases/urlpattern.ts';

export const AREAS: readonly Area[] = [
  url,
  urlSearchParams,
  urlPattern,
  encoding,
  base64,
  headers,
  request,
  response,
  forms,
  events,
  abort,
  clone,
  webCrypto,
  streams,
  compression,
  scope,
];
