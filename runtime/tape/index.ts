export { TapeError } from './format.ts';
export { type ReplaySummary, readSteps, type SaidStep, summarize } from './replay-summary.ts';
export { type Delivery, OTHER_KIND, Tape, type TapeEnd, type TapeStep } from './tape.ts';
export { type Difference, type ReplayReport, type StepNow, TapePlayer } from './tape-player.ts';
export { type Recording, TapeRecorder } from './tape-recorder.ts';
