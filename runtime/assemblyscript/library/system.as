/** What the compiler's own library asks of its host, and the streams. All names are global, so they say whose they are. */

import { quote } from "postern/json";

// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "fd_write")
declare function postern_fd_write(fd: u32, vectors: usize, count: usize, written: usize): u32;
// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "fd_read")
declare function postern_fd_read(fd: u32, vectors: usize, count: usize, got: usize): u32;
// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "proc_exit")
declare function postern_proc_exit(code: u32): void;
// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "random_get")
declare function postern_random_get(address: usize, length: usize): u32;
// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "clock_time_get")
declare function postern_clock_time_get(clock: u32, precision: u64, result: usize): u32;

// @ts-ignore: decorator
@external("postern", "call")
declare function postern_host_call(request: usize, length: usize): u32;

/** In UTF-16 units: as JSON it stays below what `fail` takes. */
const POSTERN_MAX_MESSAGE: i32 = 2000;

/** A vector, and a count of bytes. */
// @ts-ignore: decorator
@lazy const POSTERN_VECTOR: usize = memory.data(8, 8);
// @ts-ignore: decorator
@lazy const POSTERN_COUNT: usize = memory.data(8, 8);

export function postern_write(fd: u32, text: string): void {
  const bytes = String.UTF8.encode(text, false, String.UTF8.ErrorMode.REPLACE);
  let at = changetype<usize>(bytes);
  let left = bytes.byteLength;
  while (left > 0) {
    store<usize>(POSTERN_VECTOR, at);
    store<usize>(POSTERN_VECTOR, left, sizeof<usize>());
    if (postern_fd_write(fd, POSTERN_VECTOR, 1, POSTERN_COUNT) != 0) return;
    const written = load<u32>(POSTERN_COUNT);
    at += written;
    left -= <i32>written;
  }
}

export function postern_read_all(fd: u32): string {
  let buffer = new ArrayBuffer(4096);
  let length = 0;
  while (true) {
    if (length == buffer.byteLength) {
      const larger = new ArrayBuffer(2 * length);
      memory.copy(changetype<usize>(larger), changetype<usize>(buffer), length);
      buffer = larger;
    }
    store<usize>(POSTERN_VECTOR, changetype<usize>(buffer) + length);
    store<usize>(POSTERN_VECTOR, buffer.byteLength - length, sizeof<usize>());
    if (postern_fd_read(fd, POSTERN_VECTOR, 1, POSTERN_COUNT) != 0) break;
    const got = load<u32>(POSTERN_COUNT);
    if (got == 0) break;
    length += <i32>got;
  }
  return String.UTF8.decodeUnsafe(changetype<usize>(buffer), length);
}

/** What `abort`, `assert` and `throw` come to: the message goes to the caller, the place to the log. */
export function postern_abort(message: string | null, file: string | null, line: u32, column: u32): void {
  const what = message === null ? "aborted" : message;
  const where = file === null ? "" : " at " + file + ":" + line.toString() + ":" + column.toString();
  postern_write(2, "Error: " + what + where + "\n");
  const failure = String.UTF8.encode('{"op":"fail","message":' + quote(what.substring(0, POSTERN_MAX_MESSAGE)) + "}");
  postern_host_call(changetype<usize>(failure), failure.byteLength);
  postern_proc_exit(255);
}

export function postern_trace(
  message: string,
  n: i32 = 0,
  a0: f64 = 0,
  a1: f64 = 0,
  a2: f64 = 0,
  a3: f64 = 0,
  a4: f64 = 0,
): void {
  let line = "trace: " + message;
  if (n > 0) line += " " + a0.toString();
  if (n > 1) line += ", " + a1.toString();
  if (n > 2) line += ", " + a2.toString();
  if (n > 3) line += ", " + a3.toString();
  if (n > 4) line += ", " + a4.toString();
  postern_write(2, line + "\n");
}

export function postern_seed(): f64 {
  postern_random_get(POSTERN_COUNT, 8);
  return reinterpret<f64>(load<u64>(POSTERN_COUNT));
}

/** Milliseconds since 1970. */
export function postern_now(): i64 {
  postern_clock_time_get(0, 0, POSTERN_COUNT);
  return <i64>(load<u64>(POSTERN_COUNT) / 1000000);
}

/** What a program prints goes to its log: stdout is its result. */
export namespace postern_console {
  export function log(message: string = ""): void {
    postern_write(2, message + "\n");
  }
  export function debug(message: string = ""): void {
    postern_write(2, message + "\n");
  }
  export function info(message: string = ""): void {
    postern_write(2, message + "\n");
  }
  export function warn(message: string = ""): void {
    postern_write(2, message + "\n");
  }
  export function error(message: string = ""): void {
    postern_write(2, message + "\n");
  }
}

/** Of JavaScript's Date what needs no calendar. */
export class postern_Date {
  // @ts-ignore: decorator
  @inline static now(): i64 {
    return postern_now();
  }
}
