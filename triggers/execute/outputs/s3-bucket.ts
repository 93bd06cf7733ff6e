/** A bucket of S3-compatible storage, addressed by path. Requests are signed (AWS Signature Version 4) with their body's hash. */

import { hash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { AwsV4Signer } from 'aws4fetch';
import { Agent, request } from 'undici';
import { PosternError } from '../../../runtime/index.ts';

export interface S3BucketOptions {
  /** Of the service, without the bucket: `https://s3.eu-central-1.amazonaws.com`. */
  readonly url: string;
  readonly bucket: string;
  readonly region: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  /** Before the second and third attempt; shorter for tests. */
  readonly retryAfterMs?: number;
}

interface S3Request {
  readonly method: 'PUT' | 'GET' | 'DELETE';
  readonly name: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Buffer;
}

const ATTEMPTS = 3;
const RETRY_AFTER_MS = 200;
const TIMEOUT_MS = 15_000;
const MAX_CONNECTIONS = 32;
/** Of an answer. None of ours is larger; a server that says more is none that we asked for. */
const MAX_ANSWER_BYTES = 16 * 2 ** 20;
/** What S3 calls an error, from its XML: no other word of a server's is told. */
const ERROR_CODE = /<Code>([A-Za-z]{1,60})<\/Code>/;

export class S3Bucket {
  readonly #options: S3BucketOptions;
  readonly #agent = new Agent({
    connections: MAX_CONNECTIONS,
    headersTimeout: TIMEOUT_MS,
    bodyTimeout: TIMEOUT_MS,
    connect: { timeout: TIMEOUT_MS },
    maxResponseSize: MAX_ANSWER_BYTES,
  });
  /** The signer's: keys of a day. */
  readonly #signingKeys = new Map<string, ArrayBuffer>();

  constructor(options: S3BucketOptions) {
    this.#options = options;
  }

  /** Safe to repeat. As all others it rejects STORAGE_UNAVAILABLE, after three attempts where another may help. */
  async put(name: string, body: Buffer, contentType: string): Promise<void> {
    await this.#send({ method: 'PUT', name, body, headers: { 'content-type': contentType } });
  }

  /** Bytes from `start` up to `end`, not with it. */
  async read(name: string, start: number, end: number): Promise<Buffer> {
    const { status, body } = await this.#send({
      method: 'GET',
      name,
      headers: { range: `bytes=${start}-${end - 1}` },
    });
    // Who does not know ranges sends all.
    return status === 206 ? body : body.subarray(start, end);
  }

  /** No matter whether it is there. */
  async delete(name: string): Promise<void> {
    await this.#send({ method: 'DELETE', name });
  }

  async stop(): Promise<void> {
    await this.#agent.destroy();
  }

  async #send(asked: S3Request): Promise<{ status: number; body: Buffer }> {
    for (let attempt = 1; ; attempt++) {
      const answer = await this.#attempt(asked).catch((error: Error) => error);
      const retryable = answer instanceof Error || answer.status >= 500 || answer.status === 429;
      if (!(answer instanceof Error) && answer.status < 300) return answer;
      if (retryable && attempt < ATTEMPTS) {
        await sleep(attempt * (this.#options.retryAfterMs ?? RETRY_AFTER_MS));
        continue;
      }
      if (answer instanceof Error) throw unavailable(asked.method, 'it does not answer', answer);
      if (asked.method === 'DELETE' && answer.status === 404) return answer;
      const code = ERROR_CODE.exec(answer.body.toString('latin1', 0, 4_096))?.[1];
      throw unavailable(asked.method, `it answers ${answer.status}${code === undefined ? '' : ` ${code}`}`);
    }
  }

  async #attempt({ method, name, headers = {}, body }: S3Request): Promise<{ status: number; body: Buffer }> {
    const { url, bucket, region, accessKeyId, secretAccessKey } = this.#options;
    const target = `${url}/${bucket}/${name}`;
    const signed = await new AwsV4Signer({
      method,
      url: target,
      headers: { ...headers, 'x-amz-content-sha256': hash('sha256', body ?? '', 'hex') },
      accessKeyId,
      secretAccessKey,
      region,
      service: 's3',
      cache: this.#signingKeys,
    }).sign();
    const answer = await request(target, {
      method,
      headers: Object.fromEntries(signed.headers),
      ...(body === undefined ? {} : { body }),
      dispatcher: this.#agent,
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    return { status: answer.statusCode, body: Buffer.from(await answer.body.arrayBuffer()) };
  }
}

function unavailable(method: string, why: string, cause?: Error): PosternError {
  const text = `the storage of outputs can not be used: to ${method} ${why}`;
  return new PosternError('STORAGE_UNAVAILABLE', text, cause === undefined ? {} : { cause });
}
