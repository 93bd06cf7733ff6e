export { CommandExecution } from './command-execution.ts';
export {
  buildCommand,
  type CommandProgram,
  isStoredCommand,
  loadCommand,
  PREVIEW1_MODULE,
} from './command-program.ts';
export { BadAddressError, GuestMemory } from './guest-memory.ts';
export { GuestRun, type RunGuest } from './guest-run.ts';
export { HostChannel } from './host-channel.ts';
export { jsonShapeOf } from './json-text.ts';
export { LogLines } from './log-lines.ts';
export { type Process, preview1Imports, Streams } from './preview1.ts';
export { PREVIEW1_NAMES } from './preview1-signatures.ts';
