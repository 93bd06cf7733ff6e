/** Cases that the sandbox fails, by area: a reason, and the cases' names. A test fails when one of them passes. */

export interface KnownFailure {
  readonly area: string;
  readonly reason: string;
  readonly cases: readonly string[];
}

export const KNOWN_FAILURES: readonly KnownFailure[] = [
  {
    area: 'URL',
    reason: 'the native module writes a lone surrogate as it is, where U+FFFD is due',
    cases: [String.raw`"http://h/\ud800"`],
  },
  {
    area: 'URL',
    reason: 'a missing argument is taken for undefined',
    cases: ['URL.canParse()'],
  },
  {
    area: 'URLSearchParams',
    reason: 'the native iterator goes over a copy, so that changes made under way are not seen',
    cases: [
      "{ const p = new URLSearchParams('a=1&b=2&c=3'); const seen = []; for (const [k] of p) { seen.push(k); p.delete(k); } return seen; }",
    ],
  },
  {
    area: 'URLSearchParams',
    reason: 'a missing argument is taken for undefined',
    cases: ["new URLSearchParams('a').get()"],
  },
  {
    area: 'Encoding',
    reason:
      'there are UTF-8, UTF-16 and windows-1252 (latin1, ascii); the tables of the others would be in every image',
    cases: [
      '"windows-1251"',
      '"iso-8859-2"',
      '"iso-8859-15"',
      '"koi8-r"',
      '"macintosh"',
      '"windows-1250"',
      '"shift_jis"',
      '"euc-jp"',
      '"gbk"',
      '"gb18030"',
      '"big5"',
      '"euc-kr"',
      '[208,240], "windows-1251", {}',
      '[164], "iso-8859-15", {}',
      '[193], "koi8-r", {}',
    ],
  },
  { area: 'atob, btoa', reason: 'a missing argument is taken for undefined', cases: ['btoa()', 'atob()'] },
  {
    area: 'Headers',
    reason: 'the native iterator goes over a copy, so that changes made under way are not seen',
    cases: [
      "{ const h = new Headers({ a: '1', b: '2', c: '3' }); const seen = []; for (const [k] of h) { seen.push(k); if (k === 'a') h.delete('b'); } return seen; }",
    ],
  },
  {
    area: 'Request',
    reason: '`mode` is a browser’s and not looked at; a stream as a body needs no `duplex`',
    cases: [
      `((init) => new Request('http://h', init))({"mode":"navigate"})`,
      "new Request('http://h', { method: 'POST', body: new ReadableStream() })",
    ],
  },
  {
    area: 'Blob, File, FormData',
    reason: 'a missing argument is taken for undefined',
    cases: ['new FormData().get()'],
  },
  {
    area: 'Streams',
    reason: 'there is no CompressionStream',
    cases: [
      "{ const c = new CompressionStream('gzip'); const r = new Blob(['hello']).stream().pipeThrough(c).pipeThrough(new DecompressionStream('gzip')); return new Response(r).text(); }",
    ],
  },
  {
    area: 'Timers and the rest of the global',
    reason: 'there is no URLPattern',
    cases: ['new URLPattern({ pathname: "/users/:id" }).exec("http://h/users/7").pathname.groups.id'],
  },
];
