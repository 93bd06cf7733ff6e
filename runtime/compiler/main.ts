/** A compiler's process: its argument is the kind, stdin the input; one answer on stdout, and the end. */

import { buffer } from 'node:stream/consumers';
import { PosternError } from '../errors.ts';
import { ANSWER } from './answer.ts';
import { COMPILERS, type Compile, isCompilerKind } from './compilers.ts';

const kind = process.argv[2] ?? '';
// What a compiler prints is not its answer.
const answer = process.stdout.write.bind(process.stdout);
process.stdout.write = () => true;

try {
  if (!isCompilerKind(kind)) throw new Error(`no compiler ${kind}`);
  const compile = await COMPILERS[kind].load();
  const output = await compiled(compile, await buffer(process.stdin));
  answer(Buffer.from([ANSWER.output]));
  answer(output);
} catch (error) {
  answer(Buffer.from([ANSWER.error]));
  answer(JSON.stringify(PosternError.from(error).toRecord()));
}

/** What a source makes of its compiler is the source's doing: V8 says by a RangeError that there is no stack, or no memory, left. */
async function compiled(compile: Compile, input: Uint8Array): Promise<Uint8Array> {
  try {
    return await compile(input);
  } catch (error) {
    if (error instanceof PosternError) throw error;
    const message = error instanceof RangeError ? 'it is nested too deeply, or needs too much memory' : String(error);
    throw new PosternError('INVALID_FUNCTION', `the source can not be compiled: ${message}`, { cause: error });
  }
}
