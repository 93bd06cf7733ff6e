/** Calls a handler with the event, as its type asks for it, and writes what it returns. */

import { Json } from "./json";

export function run<Handler>(handler: Handler): void {
  if (lengthof<Handler>() == 0) {
    if (isVoid<ReturnType<Handler>>()) {
      // Of a program that does nothing at all the compiler would find no start function, and crash.
      postern_read_all(0);
      handler();
    } else write<ReturnType<Handler>>(handler());
  } else if (isVoid<ReturnType<Handler>>()) runVoid(handler);
  else runResult(handler);
}

function runResult<Event, Result>(handler: (event: Event) => Result): void {
  write<Result>(handler(eventOf<Event>(postern_read_all(0))));
}

function runVoid<Event>(handler: (event: Event) => void): void {
  handler(eventOf<Event>(postern_read_all(0)));
}

function eventOf<Event>(text: string): Event {
  if (isString<Event>()) return changetype<Event>(text);
  if (isReference<Event>()) {
    if (idof<Event>() == idof<Json>()) return changetype<Event>(Json.parse(text));
  }
  ERROR("the handler's parameter has to be a string or a Json of \"postern\"");
}

function write<Result>(result: Result): void {
  if (isString<Result>()) {
    if (isNullable<Result>() && changetype<usize>(result) == 0) postern_write(1, "null");
    else postern_write(1, changetype<string>(result));
    return;
  }
  if (isReference<Result>()) {
    if (idof<Result>() != idof<Json>()) ERROR("the handler has to return a string, a Json of \"postern\", a number or nothing");
    if (isNullable<Result>() && changetype<usize>(result) == 0) postern_write(1, "null");
    else postern_write(1, changetype<Json>(result).stringify());
    return;
  }
  if (isBoolean<Result>()) postern_write(1, result ? "true" : "false");
  else if (isFloat<Result>()) postern_write(1, Json.number(<f64>result).stringify());
  else postern_write(1, result.toString());
}
