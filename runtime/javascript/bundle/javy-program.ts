/**
 * Programs written for Javy: a module that exports nothing, reads its event from standard input and writes its result to standard
 * output with `Javy.IO`, or with `javy/fs` of the npm package over it. Its top level is the handler.
 */

/** What `javy` and `javy/fs` give, as in javy 0.1.2; those of npm, bundled in, work on `Javy.IO` as well. */
export const JAVY_MODULES: ReadonlyMap<string, string> = new Map([
  ['javy', `export const STDIO = { Stdin: 0, Stdout: 1, Stderr: 2, 0: 'Stdin', 1: 'Stdout', 2: 'Stderr' };`],
  [
    'javy/fs',
    `export { STDIO } from 'javy';
export function readFileSync(fd) {
  let bytes = new Uint8Array(1024);
  for (let length = 0; ; ) {
    const count = Javy.IO.readSync(fd, bytes.subarray(length));
    if (count < 0) throw new Error('Error while reading from file descriptor');
    if (count === 0) return bytes.subarray(0, length);
    length += count;
    if (length === bytes.length) {
      const larger = new Uint8Array(bytes.length * 2);
      larger.set(bytes);
      bytes = larger;
    }
  }
}
export function writeFileSync(fd, bytes) {
  while (bytes.length > 0) {
    const count = Javy.IO.writeSync(fd, bytes);
    if (count <= 0) throw new Error('Could not write all contents in buffer to file descriptor');
    bytes = bytes.subarray(count);
  }
}`,
  ],
]);

const MENTIONS_JAVY = /\bJavy\s*\.\s*IO\b/;

/** Bundled code, and the names that it exports. */
export function isJavyProgram(code: string, exportNames: readonly string[]): boolean {
  return exportNames.length === 0 && MENTIONS_JAVY.test(code);
}

/** On one line, so that the lines of the program keep their numbers. */
const RUNNER = `const postern$javy = (() => {
  let input, output, errors;
  const decode = (chunks) => {
    const bytes = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
    let at = 0;
    for (const chunk of chunks) { bytes.set(chunk, at); at += chunk.length; }
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  };
  const readSync = (fd, buffer) => {
    if (fd !== 0) return -1;
    const part = input.subarray(0, buffer.length);
    buffer.set(part);
    input = input.subarray(part.length);
    return part.length;
  };
  const writeSync = (fd, buffer) => {
    if (fd !== 1 && fd !== 2) return -1;
    (fd === 1 ? output : errors).push(buffer.slice());
    return buffer.length;
  };
  globalThis.Javy = { IO: { readSync, writeSync } };
  return (program) => async (event) => {
    input = new TextEncoder().encode(JSON.stringify(event));
    output = [];
    errors = [];
    try {
      await program();
    } finally {
      if (errors.length > 0) console.log(decode(errors).replace(/\\n$/, ''));
    }
    const text = decode(output);
    if (text.trim() === '') return null;
    try { return JSON.parse(text); } catch { return text; }
  };
})();`.replace(/\n\s*/g, ' ');

/** The bundle as a module that exports the handler. */
export function javyProgram(code: string, handlerName: string): string {
  return `${RUNNER} const postern$handler = postern$javy(async () => {${code}\n});\nexport { postern$handler as ${handlerName} };\n`;
}
