/** `import { db, env, http, Json, log } from "postern"`. Host calls wait for their answer; a call that fails aborts. */

import { Json, quote } from "./json";
import { decodeBase64, encodeBase64 } from "./base64";

export { Json, Kind } from "./json";

// @ts-ignore: decorator
@external("postern", "call")
declare function hostCall(request: usize, length: usize): u32;
// @ts-ignore: decorator
@external("postern", "take")
declare function hostTake(answer: usize): void;
// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "environ_sizes_get")
declare function environSizes(count: usize, size: usize): u32;
// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "environ_get")
declare function environGet(pointers: usize, buffer: usize): u32;

/** What a host call came to. */
export class Answer {
  constructor(readonly ok: bool, readonly value: Json) {}

  /** Of a call that failed: `name: message`. */
  get error(): string {
    return this.value.get("name").asString() + ": " + this.value.get("message").asString();
  }
}

/** Makes a host call; payload: an object. For what the functions below do not offer. */
export function tryCall(operation: string, payload: Json): Answer {
  const fields = payload.stringify();
  const rest = payload.length == 0 ? "}" : "," + fields.substring(1);
  const request = utf8('{"op":' + quote(operation) + rest);
  const length = hostCall(changetype<usize>(request), request.byteLength);
  const buffer = new ArrayBuffer(length);
  hostTake(changetype<usize>(buffer));
  const answer = Json.parse(String.UTF8.decode(buffer));
  const ok = answer.get("ok").asBoolean();
  return new Answer(ok, answer.get(ok ? "value" : "error"));
}

/** The same; aborts where it fails. */
export function call(operation: string, payload: Json): Json {
  const answer = tryCall(operation, payload);
  if (!answer.ok) throw new Error(operation + ": " + answer.error);
  return answer.value;
}

export namespace db {
  /** The rows, an array of objects. params: an array. */
  export function query(sql: string, params: Json = Json.array()): Json {
    const value = call("db.query", Json.object().set("sql", Json.string(sql)).set("params", params));
    const fields = value.get("fields");
    const rows = value.get("rows");
    const result = Json.array();
    for (let i = 0; i < rows.length; i++) {
      const row = Json.object();
      for (let j = 0; j < fields.length; j++) row.set(fields.at(j).at(0).asString(), rows.at(i).at(j));
      result.push(row);
    }
    return result;
  }
}

export namespace log {
  function line(level: string, message: string): void {
    tryCall("log", Json.object().set("level", Json.string(level)).set("message", Json.string(message)));
  }
  export function debug(message: string): void {
    line("debug", message);
  }
  export function info(message: string): void {
    line("info", message);
  }
  export function warn(message: string): void {
    line("warn", message);
  }
  export function error(message: string): void {
    line("error", message);
  }
}

export namespace env {
  /** null where the function has no such variable. */
  export function get(name: string): string | null {
    const sizes = new ArrayBuffer(8);
    const at = changetype<usize>(sizes);
    environSizes(at, at + 4);
    const count = load<u32>(at);
    const pointers = new ArrayBuffer(4 * count + 4);
    const buffer = new ArrayBuffer(load<u32>(at, 4) + 1);
    environGet(changetype<usize>(pointers), changetype<usize>(buffer));
    for (let i: u32 = 0; i < count; i++) {
      const start: usize = load<u32>(changetype<usize>(pointers) + 4 * i);
      let end = start;
      while (load<u8>(end) != 0) end++;
      const variable = String.UTF8.decodeUnsafe(start, end - start);
      if (variable.startsWith(name + "=")) return variable.substring(name.length + 1);
    }
    return null;
  }
}

export class HttpOptions {
  method: string = "GET";
  headers: Map<string, string> = new Map();
  body: string | null = null;
  redirect: string = "follow";
}

export class HttpResponse {
  constructor(
    readonly status: i32,
    readonly url: string,
    readonly headers: Map<string, string>,
    readonly body: ArrayBuffer,
  ) {}

  get ok(): bool {
    return this.status >= 200 && this.status < 300;
  }
  text(): string {
    return String.UTF8.decode(this.body);
  }
  json(): Json {
    return Json.parse(this.text());
  }
}

function utf8(text: string): ArrayBuffer {
  return String.UTF8.encode(text, false, String.UTF8.ErrorMode.REPLACE);
}

export namespace http {
  /** To hosts of the function's list only. Names of the answer's headers are in lower case. */
  export function fetch(url: string, options: HttpOptions = new HttpOptions()): HttpResponse {
    const headers = Json.array();
    const names = options.headers.keys();
    for (let i = 0; i < names.length; i++) {
      const value = options.headers.get(names[i]);
      headers.push(Json.array().push(Json.string(names[i])).push(Json.string(value)));
    }
    const body = options.body;
    const request = Json.object()
      .set("url", Json.string(url))
      .set("method", Json.string(options.method))
      .set("headers", headers)
      .set("bodyBase64", body === null ? Json.null() : Json.string(encodeBase64(utf8(body))))
      .set("redirect", Json.string(options.redirect));
    const answer = call("http.fetch", request);
    const answered = new Map<string, string>();
    const list = answer.get("headers");
    for (let i = 0; i < list.length; i++) {
      const name = list.at(i).at(0).asString();
      const value = list.at(i).at(1).asString();
      answered.set(name, answered.has(name) ? answered.get(name) + ", " + value : value);
    }
    return new HttpResponse(
      <i32>answer.get("status").asInteger(),
      answer.get("url").asString(),
      answered,
      decodeBase64(answer.get("bodyBase64").asString()),
    );
  }
}
