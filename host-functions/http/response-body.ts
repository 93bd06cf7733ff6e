import { type Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import zlib from 'node:zlib';
import { limitError } from '../limit-error.ts';
import { requestFailed } from './http-errors.ts';

const DECODERS: Readonly<Record<string, () => Transform>> = {
  gzip: () => zlib.createGunzip(),
  'x-gzip': () => zlib.createGunzip(),
  deflate: () => zlib.createInflate(),
  br: () => zlib.createBrotliDecompress(),
  zstd: () => zlib.createZstdDecompress(),
};
/** Servers use one; more is an amplifier. */
const MAX_ENCODINGS = 2;

/**
 * Reads a body whole, decoded, within `maxBytes` after each decoding: a layer that decodes to next to nothing could have
 * an endless one below it. The encoded bytes are capped by the dispatcher. A body in an encoding that is not known is given
 * as it is. signal: decoding ends with it too, also when all bytes are there.
 */
export async function readBody(
  body: Readable,
  encodings: string,
  maxBytes: number,
  host: string,
  signal: AbortSignal,
): Promise<Buffer> {
  const names = encodings
    .toLowerCase()
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '' && name !== 'identity');
  if (names.length > MAX_ENCODINGS) {
    body.destroy();
    throw requestFailed(host, Object.assign(new Error('too many content encodings'), { code: 'ENCODINGS' }));
  }
  const known = names.every((name) => Object.hasOwn(DECODERS, name));
  const decoders = known ? names.reverse().map((name) => (DECODERS[name] as () => Transform)()) : [];
  const chunks: Buffer[] = [];
  const collect = async (source: AsyncIterable<Buffer>): Promise<void> => {
    for await (const chunk of source) chunks.push(chunk);
  };
  const stages = [body, ...decoders.flatMap((decoder) => [decoder, atMost(maxBytes)]), collect];
  await pipeline(stages as [Readable, ...Transform[], typeof collect], { signal });
  return Buffer.concat(chunks);
}

function atMost(maxBytes: number): Transform {
  let bytes = 0;
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      if (bytes > maxBytes) done(responseTooLarge(maxBytes));
      else done(null, chunk);
    },
  });
}

export function responseTooLarge(maxBytes: number): Error {
  return limitError('HTTP_RESPONSE_LIMIT', `a response body may have ${maxBytes} bytes, decoded`, {
    allowed: maxBytes,
  });
}
