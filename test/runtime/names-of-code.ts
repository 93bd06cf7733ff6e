/** Names that mean something to JavaScript: written into its text as they are, or looked up in one of its objects. */

export const NAMES_OF_CODE: readonly string[] = [
  `x'];globalThis.pwned=1;//`,
  `x'+(globalThis.pwned=1)+'`,
  'x"];globalThis.pwned=1;//',
  `\`\${globalThis.pwned=1}\``,
  `\${globalThis.pwned=1}`,
  'x\\',
  'x\u2028globalThis.pwned=1',
  'x\u2029',
  'x\nglobalThis.pwned=1',
  'x\r',
  'x\u0000',
  '*/globalThis.pwned=1/*',
  '//',
  '__proto__',
  'constructor',
];
