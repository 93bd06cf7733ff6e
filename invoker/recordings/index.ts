export type { RecordMode } from './record-mode.ts';
export { MAX_RECORDING_BYTES, type RecordedInput, type Recording } from './recording.ts';
export { type RecordingFile, readRecordingFile, writeRecordingFile } from './recording-file.ts';
export { RecordingStore, type RecordingStoreOptions } from './recording-store.ts';
export { type Replay, Replayer, type ReplayRequest, type ShownRecording } from './replayer.ts';
