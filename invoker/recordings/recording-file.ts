/**
 * A recording as a file, with what its replay needs where there is no server. What the function was given is in it as it was,
 * its secrets too: taken out, the run would be another one.
 */

import { z } from 'zod';
import { PosternError } from '../../runtime/index.ts';
import { EVALUATED_LANGUAGES } from '../evaluator/evaluators.ts';
import { OUTCOMES } from '../invocation.ts';
import { inputIn, packInput, type RecordedInput, type Recording, unpackInput } from './recording.ts';

export type WholeRecording = Recording & { readonly input: RecordedInput };

/** Of a deployed function: what its catalogue knows. */
export interface RecordedVersion {
  readonly timeoutMs: number;
  readonly memoryBytes: number;
  readonly cpu: number;
  /** Good for one engine. */
  readonly image: Uint8Array;
}

export interface RecordingFile {
  /** Of the node that wrote it: what images are good for. */
  readonly engineId: string;
  readonly recording: WholeRecording;
  /** Absent where the recording has its code. */
  readonly version?: RecordedVersion;
}

const FORMAT = 1;
const MAX_MEMORY_BYTES = 512 * 2 ** 20;
const MAX_NAME_LENGTH = 200;
const base64 = z.base64().transform((text) => Buffer.from(text, 'base64'));
/** As functions and policies may have them. */
const limits = {
  timeoutMs: z.number().positive().max(300_000),
  memoryBytes: z.int().positive().max(MAX_MEMORY_BYTES),
  /** JSON has no word for a function without one. */
  cpu: z.union([z.number().positive(), z.null().transform(() => Number.POSITIVE_INFINITY)]),
};
const name = z.string().max(MAX_NAME_LENGTH);
const schema = z.object({
  postern_recording: z.literal(FORMAT),
  engine_id: z.string(),
  recording: z.object({
    invocationId: name,
    functionName: name,
    version: z.int(),
    versionId: name,
    engineId: z.string(),
    outcome: z.enum(OUTCOMES),
    startedAtMs: z.number(),
    input: base64,
  }),
  version: z.object({ ...limits, image: base64 }).optional(),
});
/** What the replay itself reads; the rest is for the executor, which believes nobody. */
const codeSchema = z.object({
  ...limits,
  language: z.enum(EVALUATED_LANGUAGES),
  code: z.string(),
  dependencies: z.record(z.string(), z.string()),
  inputBytes: z.int().nonnegative(),
});
const metaSchema = z.object({ env: z.record(z.string(), z.string()) });

/** JSON text. */
export async function writeRecordingFile({ engineId, recording, version }: RecordingFile): Promise<string> {
  const input = await packInput(recording.input);
  return JSON.stringify({
    postern_recording: FORMAT,
    engine_id: engineId,
    recording: { ...recording, input: input.toString('base64') },
    ...(version === undefined ? {} : { version: { ...version, image: Buffer.from(version.image).toString('base64') } }),
  });
}

/** Rejects with INVALID_REQUEST: anybody may have written it. */
export async function readRecordingFile(text: string): Promise<RecordingFile> {
  try {
    const { engine_id: engineId, recording, version } = schema.parse(JSON.parse(text));
    const input = await unpackInput(recording.input);
    checkInput(input);
    if (input.code === undefined && version === undefined) throw new Error('there is nothing to run');
    return { engineId, recording: { ...recording, input }, ...(version === undefined ? {} : { version }) };
  } catch (cause) {
    throw new PosternError('INVALID_REQUEST', 'this is no recording that this release of Postern can read', { cause });
  }
}

/** Throws on what a node would not have written. */
function checkInput({ event, meta, code }: RecordedInput): void {
  metaSchema.parse(JSON.parse(meta.toString()));
  if (code !== undefined) codeSchema.parse(code);
  JSON.parse(code === undefined ? event.toString() : inputIn(event, code));
}
