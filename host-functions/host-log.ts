/** The operator's log as host functions use it. Satisfied by a pino logger. Never shown to a guest. */
export interface HostLog {
  debug(fields: Record<string, unknown>, message: string): void;
  info(fields: Record<string, unknown>, message: string): void;
  warn(fields: Record<string, unknown>, message: string): void;
  error(fields: Record<string, unknown>, message: string): void;
}

/** Drops everything; the default where no log is given. */
export const SILENT_LOG: HostLog = { debug() {}, info() {}, warn() {}, error() {} };
