/**
 * What does it cost an executor to record an invocation of a trivial HTTP handler, and to replay it? Runtime only, as
 * `invocation`; those that are recorded and those that are not take turns. Run: `npm run bench -- recording`.
 */

import { TapePlayer, TapeRecorder } from '../runtime/index.ts';
import { JavaScriptGuest } from './support/guests.ts';
import { publish, summarize } from './support/report.ts';
import { HTTP_EVENT } from './support/runtime.ts';

const WARM_UP = 10_000;
const SAMPLES = 20_000;
const TURN_EVERY = 10;
const MAX_BYTES = 4 * 1024 * 1024;
const SOURCE = `export async function handler(event) {
  return { statusCode: 200, body: { hello: event.body.name } };
}`;

const guest = await JavaScriptGuest.create(SOURCE);

async function timed(work: () => Promise<unknown>): Promise<number> {
  const before = performance.now();
  await work();
  return (performance.now() - before) * 1_000;
}

async function record(): Promise<Buffer> {
  const recorder = new TapeRecorder(MAX_BYTES);
  await guest.start({ event: HTTP_EVENT, ambient: recorder }).freed;
  if ('lost' in recorder.recording) throw new Error(recorder.recording.lost);
  return recorder.recording.tape;
}

const tape = await record();

async function replay(): Promise<void> {
  const player = new TapePlayer(tape, false);
  await guest.start({ event: HTTP_EVENT, ambient: player }).freed;
  if (!player.report.same) throw new Error('the replay is not the same');
}

const plain: number[] = [];
const recorded: number[] = [];
const replayed: number[] = [];
for (let index = 0; index < WARM_UP + SAMPLES; index++) {
  const times = [
    await timed(() => guest.start({ event: HTTP_EVENT }).freed),
    await timed(record),
    await timed(replay),
  ] as const;
  if (index >= WARM_UP) for (const [at, list] of [plain, recorded, replayed].entries()) list.push(times[at] as number);
  if (index % TURN_EVERY === 0) await new Promise(setImmediate);
}
const [without, withTape, again] = [plain, recorded, replayed].map((list) => summarize(list).p50) as [
  number,
  number,
  number,
];
publish({
  bench: 'recording',
  question: 'recording a trivial handler, and replaying it, runtime only',
  figures: [
    { name: 'p50, not recorded', value: without, unit: 'µs' },
    { name: 'p50, recorded', value: withTape, unit: 'µs' },
    { name: 'p50 of a replay', value: again, unit: 'µs' },
    { name: 'tape', value: tape.length, unit: 'bytes' },
  ],
  notes: [`${SAMPLES} samples each, in turn, after ${WARM_UP}`],
});
