/**
 * A server of S3's objects on loopback, that believes nobody: it computes each request's AWS Signature Version 4 anew, by
 * https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html, and the hash of each body.
 */

import { createHash, createHmac } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';

export interface S3Server {
  readonly url: string;
  readonly bucket: string;
  readonly region: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  /** By name. */
  readonly objects: Map<string, { readonly body: Buffer; readonly contentType: string }>;
  /** Statuses that the next requests are answered, before anything is done. */
  readonly faults: number[];
  /** Methods of the requests that came. */
  readonly requests: string[];
  stop(): Promise<void>;
}

const KEYS = { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY' };
const AUTHORIZATION =
  /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([^/]+)\/s3\/aws4_request, SignedHeaders=([^,]+), Signature=([0-9a-f]{64})$/;
const MAX_SKEW_MS = 15 * 60_000;

export async function startS3Server(): Promise<S3Server> {
  const place = { ...KEYS, bucket: 'outputs-of-runs', region: 'eu-test-1' };
  const objects: S3Server['objects'] = new Map();
  const faults: number[] = [];
  const requests: string[] = [];
  const server = createServer(async (request, response) => {
    const body = Buffer.concat(await request.toArray());
    requests.push(request.method as string);
    const fault = faults.shift();
    if (fault !== undefined) return refuse(response, fault, 'SlowDown');
    const wrong = wrongSignature(request, body, place.region);
    if (wrong !== undefined) return refuse(response, 403, wrong);
    const [, bucket, ...rest] = (request.url as string).split('/');
    if (bucket !== place.bucket) return refuse(response, 404, 'NoSuchBucket');
    answer(request, response, objects, rest.join('/'), body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  return {
    ...place,
    url: `http://127.0.0.1:${port}`,
    objects,
    faults,
    requests,
    stop: () => new Promise((resolve) => server.close(() => resolve()).closeAllConnections()),
  };
}

function answer(
  request: IncomingMessage,
  response: ServerResponse,
  objects: S3Server['objects'],
  name: string,
  body: Buffer,
): void {
  if (request.method === 'PUT') {
    objects.set(name, { body, contentType: request.headers['content-type'] ?? '' });
    response.writeHead(200).end();
  } else if (request.method === 'DELETE') {
    objects.delete(name);
    response.writeHead(204).end();
  } else {
    const found = objects.get(name);
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? [];
    if (found === undefined) refuse(response, 404, 'NoSuchKey');
    else if (first === undefined) response.writeHead(200).end(found.body);
    else response.writeHead(206).end(found.body.subarray(Number(first), Number(last) + 1));
  }
}

function refuse(response: ServerResponse, status: number, code: string): void {
  response.writeHead(status, { 'content-type': 'application/xml' });
  response.end(`<?xml version="1.0"?><Error><Code>${code}</Code><Message>no</Message></Error>`);
}

/** What S3 would call it, or undefined. */
function wrongSignature({ method, url = '', headers }: IncomingMessage, body: Buffer, region: string) {
  const match = AUTHORIZATION.exec(headers.authorization ?? '');
  if (match === null) return 'AccessDenied';
  const [, keyId, day = '', itsRegion, signedHeaders = '', signature] = match;
  if (keyId !== KEYS.accessKeyId) return 'InvalidAccessKeyId';
  if (itsRegion !== region) return 'AuthorizationHeaderMalformed';
  const time = String(headers['x-amz-date']);
  const at = Date.parse(time.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z'));
  if (!(Math.abs(Date.now() - at) < MAX_SKEW_MS) || !time.startsWith(day)) return 'RequestTimeTooSkewed';
  const names = signedHeaders.split(';');
  if (!['host', 'x-amz-content-sha256', 'x-amz-date'].every((name) => names.includes(name))) return 'AccessDenied';
  const sha256 = (data: string | Buffer): string => createHash('sha256').update(data).digest('hex');
  const bodyHash = sha256(body);
  if (headers['x-amz-content-sha256'] !== bodyHash) return 'XAmzContentSHA256Mismatch';
  const canonical = [
    method,
    url,
    '',
    ...names.map((name) => `${name}:${String(headers[name]).trim()}`),
    '',
    signedHeaders,
    bodyHash,
  ].join('\n');
  const scope = `${day}/${region}/s3/aws4_request`;
  const toSign = ['AWS4-HMAC-SHA256', time, scope, sha256(canonical)].join('\n');
  const hmac = (key: string | Buffer, data: string): Buffer => createHmac('sha256', key).update(data).digest();
  const key = [day, region, 's3', 'aws4_request'].reduce<string | Buffer>(hmac, `AWS4${KEYS.secretAccessKey}`);
  return hmac(key, toSign).toString('hex') === signature ? undefined : 'SignatureDoesNotMatch';
}
