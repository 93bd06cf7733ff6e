/** A JSON value of any kind. Numbers keep their text, so that what is only passed on stays exactly what it was. */

export const enum Kind {
  Null,
  Boolean,
  Number,
  String,
  Array,
  Object,
}

const MAX_DEPTH: i32 = 500;

export class Json {
  private text: string = "";
  private flag: bool = false;
  private items: Array<Json> = [];
  private names: Array<string> = [];

  private constructor(readonly kind: Kind) {}

  /** Aborts, with the place, where the text is no JSON. */
  static parse(text: string): Json {
    const parser = new Parser(text);
    const value = parser.value(0);
    parser.end();
    return value;
  }

  static null(): Json {
    return new Json(Kind.Null);
  }
  static boolean(value: bool): Json {
    const json = new Json(Kind.Boolean);
    json.flag = value;
    return json;
  }
  static number(value: f64): Json {
    const json = new Json(Kind.Number);
    const whole = <i64>value;
    if (!isFinite(value)) return Json.null();
    json.text = <f64>whole == value && abs(value) < 9007199254740992.0 ? whole.toString() : value.toString();
    return json;
  }
  static integer(value: i64): Json {
    return Json.numberOf(value.toString());
  }
  static numberOf(text: string): Json {
    const json = new Json(Kind.Number);
    json.text = text;
    return json;
  }
  static string(value: string): Json {
    const json = new Json(Kind.String);
    json.text = value;
    return json;
  }
  static array(): Json {
    return new Json(Kind.Array);
  }
  static object(): Json {
    return new Json(Kind.Object);
  }

  get isNull(): bool {
    return this.kind == Kind.Null;
  }

  /** Of an array or an object. */
  get length(): i32 {
    return this.items.length;
  }

  /** An object's member; null, as a JSON value, where it has none of this name or is no object. */
  get(name: string): Json {
    const at = this.names.lastIndexOf(name);
    return at == -1 ? Json.null() : this.items[at];
  }

  has(name: string): bool {
    return this.names.includes(name);
  }

  /** An array's item; null, as a JSON value, beyond its end. */
  at(index: i32): Json {
    return index >= 0 && index < this.items.length ? this.items[index] : Json.null();
  }

  keys(): Array<string> {
    return this.names.slice(0);
  }

  /** Returns the object itself. */
  set(name: string, value: Json): Json {
    assert(this.kind == Kind.Object, "set: the value is no JSON object");
    const at = this.names.lastIndexOf(name);
    if (at != -1) this.items[at] = value;
    else {
      this.names.push(name);
      this.items.push(value);
    }
    return this;
  }

  /** Returns the array itself. */
  push(value: Json): Json {
    assert(this.kind == Kind.Array, "push: the value is no JSON array");
    this.items.push(value);
    return this;
  }

  /** A string's text; of other values their JSON. */
  asString(): string {
    return this.kind == Kind.String ? this.text : this.stringify();
  }

  /** NaN where it is no number. */
  asNumber(): f64 {
    return this.kind == Kind.Number ? parseFloat(this.text) : NaN;
  }

  /** Of a number without fraction and exponent all its digits. */
  asInteger(): i64 {
    if (this.kind != Kind.Number) return 0;
    for (let i = 0; i < this.text.length; i++) {
      const code = this.text.charCodeAt(i);
      if (code == 0x2e || code == 0x65 || code == 0x45) return <i64>parseFloat(this.text);
    }
    return I64.parseInt(this.text);
  }

  asBoolean(): bool {
    return this.kind == Kind.Boolean && this.flag;
  }

  stringify(): string {
    const out: string[] = [];
    this.write(out);
    return out.join("");
  }

  private write(out: string[]): void {
    switch (this.kind) {
      case Kind.Null:
        out.push("null");
        break;
      case Kind.Boolean:
        out.push(this.flag ? "true" : "false");
        break;
      case Kind.Number:
        out.push(this.text);
        break;
      case Kind.String:
        out.push(quote(this.text));
        break;
      default: {
        const isObject = this.kind == Kind.Object;
        out.push(isObject ? "{" : "[");
        for (let i = 0; i < this.items.length; i++) {
          if (i > 0) out.push(",");
          if (isObject) {
            out.push(quote(this.names[i]));
            out.push(":");
          }
          this.items[i].write(out);
        }
        out.push(isObject ? "}" : "]");
      }
    }
  }
}

/** A JSON string. */
export function quote(text: string): string {
  let start = 0;
  let out = '"';
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code != 0x22 && code != 0x5c && code >= 0x20) continue;
    out += text.substring(start, i);
    start = i + 1;
    if (code == 0x22) out += '\\"';
    else if (code == 0x5c) out += "\\\\";
    else out += "\\u00" + (code < 16 ? "0" : "") + code.toString(16);
  }
  return out + text.substring(start) + '"';
}

class Parser {
  private position: i32 = 0;

  constructor(private text: string) {}

  value(depth: i32): Json {
    if (depth > MAX_DEPTH) this.fail("nested too deeply");
    const code = this.next();
    if (code == 0x7b) return this.object(depth);
    if (code == 0x5b) return this.array(depth);
    if (code == 0x22) return Json.string(this.string());
    if (this.word("true")) return Json.boolean(true);
    if (this.word("false")) return Json.boolean(false);
    if (this.word("null")) return Json.null();
    return this.number();
  }

  end(): void {
    if (this.next() != -1) this.fail("unexpected text after the value");
  }

  private object(depth: i32): Json {
    const json = Json.object();
    this.position++;
    if (this.next() == 0x7d) {
      this.position++;
      return json;
    }
    while (true) {
      if (this.next() != 0x22) this.fail("a member's name has to be a string");
      const name = this.string();
      this.expect(0x3a, "':'");
      json.set(name, this.value(depth + 1));
      if (this.next() == 0x7d) break;
      this.expect(0x2c, "',' or '}'");
    }
    this.position++;
    return json;
  }

  private array(depth: i32): Json {
    const json = Json.array();
    this.position++;
    if (this.next() == 0x5d) {
      this.position++;
      return json;
    }
    while (true) {
      json.push(this.value(depth + 1));
      if (this.next() == 0x5d) break;
      this.expect(0x2c, "',' or ']'");
    }
    this.position++;
    return json;
  }

  private string(): string {
    let start = ++this.position;
    let out = "";
    while (true) {
      if (this.position >= this.text.length) this.fail("a string without an end");
      const code = this.text.charCodeAt(this.position);
      if (code == 0x22) break;
      if (code < 0x20) this.fail("a control character in a string");
      if (code != 0x5c) {
        this.position++;
        continue;
      }
      out += this.text.substring(start, this.position);
      out += this.escaped();
      start = this.position;
    }
    out += this.text.substring(start, this.position);
    this.position++;
    return out;
  }

  private escaped(): string {
    const code = this.text.charCodeAt(this.position + 1);
    this.position += 2;
    switch (code) {
      case 0x22:
        return '"';
      case 0x5c:
        return "\\";
      case 0x2f:
        return "/";
      case 0x62:
        return "\b";
      case 0x66:
        return "\f";
      case 0x6e:
        return "\n";
      case 0x72:
        return "\r";
      case 0x74:
        return "\t";
      case 0x75: {
        let unit = 0;
        for (let i = 0; i < 4; i++) {
          const digit = hexDigit(this.text.charCodeAt(this.position + i));
          if (digit < 0) this.fail("a bad \\u in a string");
          unit = unit * 16 + digit;
        }
        this.position += 4;
        return String.fromCharCode(unit);
      }
    }
    this.fail("a bad escape in a string");
    return "";
  }

  private number(): Json {
    const start = this.position;
    if (this.peek() == 0x2d) this.position++;
    if (this.peek() == 0x30) this.position++;
    else this.digits();
    if (this.peek() == 0x2e) {
      this.position++;
      this.digits();
    }
    if ((this.peek() | 0x20) == 0x65) {
      this.position++;
      if (this.peek() == 0x2b || this.peek() == 0x2d) this.position++;
      this.digits();
    }
    return Json.numberOf(this.text.substring(start, this.position));
  }

  private digits(): void {
    const start = this.position;
    while (this.peek() >= 0x30 && this.peek() <= 0x39) this.position++;
    if (this.position == start) this.fail("unexpected text");
  }

  private word(word: string): bool {
    if (!this.text.startsWith(word, this.position)) return false;
    this.position += word.length;
    return true;
  }

  private peek(): i32 {
    return this.position < this.text.length ? this.text.charCodeAt(this.position) : -1;
  }

  /** The next character that is no white space, not stepped over; -1 at the end. */
  private next(): i32 {
    while (true) {
      const code = this.peek();
      if (code != 0x20 && code != 0x0a && code != 0x0d && code != 0x09) return code;
      this.position++;
    }
  }

  private expect(code: i32, what: string): void {
    if (this.next() != code) this.fail(what + " expected");
    this.position++;
  }

  private fail(what: string): void {
    throw new Error("JSON: " + what + ", position " + this.position.toString());
  }
}

function hexDigit(code: i32): i32 {
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  const lower = code | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}
