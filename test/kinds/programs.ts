/**
 * The same program in each language: it reads `do` of its event and does that. What a language can't say is left out of `does`, and
 * the conformance suite says that it was.
 */

import { componentFrom } from '../runtime/component/support/components.ts';
import { compileC, compileComponent } from '../support/compile-c.ts';

export const TASKS = [
  'echo',
  'remember',
  'loop',
  'fill',
  'query',
  'wait',
  'grow',
  'recurse',
  'throw',
  'log',
  'flood',
  'large',
  'exit',
  'abort',
] as const;
export type Task = (typeof TASKS)[number];

export interface Kind {
  readonly name: string;
  /** Tasks that the language has no way to do. */
  readonly lacks: readonly Task[];
  /** Fields of the deploy beside name and limits. */
  deploy(): Promise<Readonly<Record<string, unknown>>>;
}

const JAVASCRIPT = `
let calls = 0;
export async function handler(event) {
  switch (event.do) {
    case 'echo': return event;
    case 'remember': return ++calls;
    case 'loop': for (;;);
    case 'fill': { const room = new Uint8Array(16 << 20); for (;;) room.fill(1); }
    case 'query': return (await db.query('select $1::int + 1 as next', [41]))[0].next;
    case 'wait': await db.query('select pg_sleep(30)'); return null;
    case 'grow': { const all = []; for (;;) all.push(new Uint8Array(1 << 20)); }
    case 'recurse': { const deeper = (n) => 1 + deeper(n + 1); return deeper(0); }
    case 'throw': throw new TypeError('as asked');
    case 'log': console.log('a line'); return null;
    case 'flood': for (let i = 0; i < 5000; i++) console.log('line ' + i); return null;
    case 'large': return 'x'.repeat(6_500_000);
  }
}`;

const PYTHON = `
import os, sys
from postern import db
calls = 0

def deeper(n):
    return 1 + deeper(n + 1)

def handler(event):
    global calls
    match event['do']:
        case 'echo': return event
        case 'remember':
            calls += 1
            return calls
        case 'loop':
            while True: pass
        case 'fill':
            room = bytearray(16 << 20)
            while True: room[:] = bytes(16 << 20)
        case 'query': return db.query('select $1::int + 1 as next', [41])[0]['next']
        case 'wait': db.query('select pg_sleep(30)')
        case 'grow':
            everything = []
            while True: everything.append(bytearray(1 << 20))
        case 'recurse': return deeper(0)
        case 'throw': raise TypeError('as asked')
        case 'log': print('a line')
        case 'flood':
            for n in range(5000): print('line', n)
        case 'large': return 'x' * 6_500_000
        case 'exit': sys.exit(7)
        case 'abort': os.abort()
`;

const ASSEMBLYSCRIPT = `
import { db, Json, log } from 'postern';
let calls: i32 = 0;

function deeper(n: i32): i32 {
  return n < 0 ? 0 : 1 + deeper(n + 1);
}

export function handler(event: Json): Json {
  const task = event.get('do').asString();
  if (task == 'echo') return event;
  if (task == 'remember') return Json.number(++calls);
  if (task == 'loop') while (true) {}
  if (task == 'fill') {
    const room = new Uint8Array(16 << 20);
    while (true) memory.fill(room.dataStart, 1, 16 << 20);
  }
  if (task == 'query') return db.query('select $1::int + 1 as next', Json.array().push(Json.integer(41))).at(0).get('next');
  if (task == 'wait') db.query('select pg_sleep(30)');
  if (task == 'grow') {
    const all = new Array<Uint8Array>();
    while (true) all.push(new Uint8Array(1 << 20));
  }
  if (task == 'recurse') return Json.number(deeper(0));
  if (task == 'throw') throw new Error('as asked');
  if (task == 'log') log.info('a line');
  if (task == 'flood') for (let n = 0; n < 5000; n++) log.info('line ' + n.toString());
  if (task == 'large') return Json.string('x'.repeat(6_500_000));
  if (task == 'abort') unreachable();
  return Json.null();
}`;

const COMPONENT = `
import * as db from 'postern:function/database@0.1.0';
import * as log from 'postern:function/logging@0.1.0';
let calls = 0;
const query = (sql, params) => JSON.parse(db.query(sql, JSON.stringify(params)));
const run = (event) => {
  switch (event.do) {
    case 'echo': return event;
    case 'remember': return ++calls;
    case 'loop': for (;;);
    case 'fill': { const room = new Uint8Array(16 << 20); for (;;) room.fill(1); }
    case 'query': return query('select $1::int + 1 as next', [41]).rows[0][0];
    case 'wait': query('select pg_sleep(30)', []); return null;
    case 'grow': { const all = []; for (;;) all.push(new Uint8Array(1 << 20)); }
    case 'recurse': { const deeper = (n) => 1 + deeper(n + 1); return deeper(0); }
    case 'throw': throw new TypeError('as asked');
    case 'log': log.log('info', 'a line', ''); return null;
    case 'flood': for (let i = 0; i < 5000; i++) log.log('info', 'line ' + i, ''); return null;
    case 'large': return 'x'.repeat(6_500_000);
  }
};
export function handler(event) {
  return JSON.stringify(run(JSON.parse(event)) ?? null);
}`;

const JAVY = `
import { readFileSync, STDIO, writeFileSync } from 'javy/fs';
const answer = (value) => writeFileSync(STDIO.Stdout, new TextEncoder().encode(JSON.stringify(value)));
const event = JSON.parse(new TextDecoder().decode(readFileSync(STDIO.Stdin)));
let calls = 0;
switch (event.do) {
  case 'echo': answer(event); break;
  case 'remember': answer(++calls + (globalThis.kept ?? 0)); globalThis.kept = 1; break;
  case 'loop': for (;;);
  case 'fill': { const room = new Uint8Array(16 << 20); for (;;) room.fill(1); }
  case 'query': answer((await db.query('select $1::int + 1 as next', [41]))[0].next); break;
  case 'wait': await db.query('select pg_sleep(30)'); break;
  case 'grow': { const all = []; for (;;) all.push(new Uint8Array(1 << 20)); }
  case 'recurse': { const deeper = (n) => 1 + deeper(n + 1); answer(deeper(0)); break; }
  case 'throw': throw new TypeError('as asked');
  case 'log': writeFileSync(STDIO.Stderr, new TextEncoder().encode('a line\\n')); break;
  case 'flood': for (let i = 0; i < 5000; i++) console.log('line ' + i); break;
  case 'large': writeFileSync(STDIO.Stdout, new TextEncoder().encode('x'.repeat(6_500_000))); break;
}`;

const C = `
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "postern.h"
/* On the heap: clang writes what is static into its object file, which takes four seconds for two megabytes of zeros. */
#define SIZE (1 << 21)
static char *event;
static int calls;
static int is(const char *word) {
  char key[64];
  snprintf(key, sizeof key, "\\"do\\":\\"%s\\"", word);
  return strstr(event, key) != 0;
}
static int deeper(volatile int n) {
  volatile char room[4096];
  room[n & 4095] = n;
  return n < 0 ? 0 : deeper(n + 1) + room[0];
}
int main(void) {
  event = calloc(SIZE, 1);
  size_t length = fread(event, 1, SIZE - 1, stdin);
  if (is("echo")) fwrite(event, 1, length, stdout);
  if (is("remember")) printf("%d", ++calls);
  if (is("fill")) { volatile char *room = malloc(16 << 20); for (;;) __builtin_memset((char *)room, room[0], 16 << 20); }
  if (is("loop")) for (volatile int i = 0;; i++);
  if (is("query")) {
    char *answer = postern_call("{\\"op\\":\\"db.query\\",\\"sql\\":\\"select $1::int + 1 as next\\",\\"params\\":[41]}");
    printf("%d", atoi(strstr(answer, "\\"rows\\":[[") + 9));
  }
  if (is("wait")) postern_call("{\\"op\\":\\"db.query\\",\\"sql\\":\\"select pg_sleep(30)\\",\\"params\\":[]}");
  if (is("grow")) for (;;) { volatile char *p = malloc(1 << 20); if (!p) abort(); *p = 1; }
  if (is("recurse")) printf("%d", deeper(0));
  if (is("throw")) { fprintf(stderr, "as asked\\n"); return 1; }
  if (is("log")) { fprintf(stderr, "a line\\n"); printf("null"); }
  if (is("flood")) { for (int i = 0; i < 5000; i++) fprintf(stderr, "line %d\\n", i); printf("null"); }
  if (is("large")) { putchar('"'); for (int i = 0; i < 6500000; i++) putchar('x'); putchar('"'); }
  if (is("exit")) exit(7);
  if (is("abort")) abort();
  return 0;
}`;

const C_COMPONENT = `
#include "postern-component.h"
#define IS(word) has(event, "\\"do\\":\\"" word "\\"")
static char digits[12];
static int calls;
static int has(postern_text event, const char *part) {
  return memmem(event.at, event.length, part, strlen(part)) != 0;
}
static int deeper(volatile int n) {
  volatile char room[4096];
  room[n & 4095] = n;
  return n < 0 ? 0 : deeper(n + 1) + room[0];
}
static postern_text number(int n) {
  char *at = digits + sizeof digits;
  do *--at = '0' + n % 10; while (n /= 10);
  return (postern_text){at, digits + sizeof digits - at};
}
static int query(const char *sql) {
  postern_text answer;
  postern_error error;
  if (!postern_query(sql, "[]", &answer, &error)) abort();
  return atoi((char *)memmem(answer.at, answer.length, "\\"rows\\":[[", 9) + 9);
}
bool handler(postern_text event, postern_text *answer) {
  *answer = postern_text_of("null");
  if (IS("echo")) *answer = event;
  if (IS("remember")) *answer = number(++calls);
  if (IS("loop")) for (volatile int i = 0;; i++);
  if (IS("fill")) { volatile char *room = malloc(16 << 20); for (;;) __builtin_memset((char *)room, room[0], 16 << 20); }
  if (IS("query")) *answer = number(query("select 42 as next"));
  if (IS("wait")) query("select pg_sleep(30)");
  if (IS("grow")) for (;;) { volatile char *p = malloc(1 << 20); if (!p) abort(); *p = 1; }
  if (IS("recurse")) *answer = number(deeper(0));
  if (IS("throw")) *answer = postern_text_of("as asked");
  if (IS("log")) postern_log(POSTERN_INFO, "a line");
  if (IS("flood")) for (int i = 0; i < 5000; i++) postern_log(POSTERN_INFO, "a line");
  if (IS("large")) { *answer = (postern_text){malloc(6500002), 6500002}; memset(answer->at, 'x', 6500002); answer->at[0] = answer->at[6500001] = '"'; }
  if (IS("abort")) abort();
  return !IS("throw");
}`;

/** Made once: it takes seconds. */
let component: Promise<Uint8Array> | undefined;

export const KINDS: readonly Kind[] = [
  { name: 'javascript', lacks: ['exit', 'abort'], deploy: async () => ({ source: JAVASCRIPT }) },
  { name: 'javy', lacks: ['exit', 'abort'], deploy: async () => ({ source: JAVY }) },
  { name: 'python', lacks: [], deploy: async () => ({ source: PYTHON, language: 'python' }) },
  {
    name: 'assemblyscript',
    lacks: ['exit'],
    // By the name of its file it is the same code, whatever the function's name is, and compiled once.
    deploy: async () => ({ source: ASSEMBLYSCRIPT, language: 'assemblyscript', fileName: 'tasks.ts' }),
  },
  {
    name: 'component',
    lacks: ['exit', 'abort'],
    deploy: async () => {
      component ??= componentFrom(COMPONENT);
      return { module: Buffer.from(await component).toString('base64') };
    },
  },
  {
    name: 'c',
    lacks: [],
    deploy: async () => ({ module: Buffer.from(await compileC(C, ['-mbulk-memory'])).toString('base64') }),
  },
  {
    name: 'component-in-c',
    lacks: ['exit'],
    deploy: async () => ({ module: Buffer.from(await compileComponent(C_COMPONENT)).toString('base64') }),
  },
];
