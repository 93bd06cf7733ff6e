/** The thread of `ScriptReader`: a text in, a script or a refusal out. */

import { parentPort } from 'node:worker_threads';
import { readAnswer } from './read-answer.ts';

parentPort?.on('message', (code: string) => parentPort?.postMessage(readAnswer(code)));
// All is loaded: time counts from here.
parentPort?.postMessage('ready');
