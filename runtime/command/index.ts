export { CommandExecution } from './command-execution.ts';
export { buildCommand, type CommandProgram, isStoredCommand, loadCommand } from './command-program.ts';
