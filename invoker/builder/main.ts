/**
 * Entry of a builder process: one build. Standard input: a `BuilderTask` in V8's own format. Standard output: the length of a
 * `BuilderAnswer` as u32, its JSON, and the image.
 */

import { readFileSync, writeSync } from 'node:fs';
import { deserialize } from 'node:v8';
import { PosternError } from '../../runtime/index.ts';
import { type BuilderTask, doTask } from './build-module.ts';
import type { BuilderAnswer } from './builder-process.ts';

const NOTHING = new Uint8Array(0);

async function build(): Promise<{ readonly answer: BuilderAnswer; readonly image: Uint8Array }> {
  try {
    const { image, ...built } = await doTask(deserialize(readFileSync(0)) as BuilderTask);
    return { answer: { built }, image };
  } catch (error) {
    // Anything else ends the process, and its complaint goes nowhere: the node says so.
    if (!(error instanceof PosternError) || error.code !== 'INVALID_FUNCTION') throw error;
    return { answer: { refused: { message: error.message, details: error.details ?? {} } }, image: NOTHING };
  }
}

const { answer, image } = await build();
const json = Buffer.from(JSON.stringify(answer));
const length = Buffer.alloc(4);
length.writeUInt32LE(json.length);
const bytes = Buffer.concat([length, json, image]);
for (let sent = 0; sent < bytes.length; ) sent += writeSync(1, bytes, sent);
