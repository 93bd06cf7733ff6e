/** A value that is typed at a terminal without being shown. */

import { StringDecoder } from 'node:string_decoder';

/** What a prompt needs of standard input. `process.stdin` is one where it is a terminal. */
export interface Keyboard extends NodeJS.ReadableStream {
  readonly isTTY?: boolean;
  setRawMode?(raw: boolean): unknown;
}

export function isTerminal(stdin: NodeJS.ReadableStream): boolean {
  const { isTTY, setRawMode } = stdin as Keyboard;
  return isTTY === true && setRawMode !== undefined;
}

const ENTER = /[\r\n]/;
const END = '\u0004';
const INTERRUPT = '\u0003';
const ERASE = ['\u007f', '\b'];
const ERASE_LINE = '\u0015';

/**
 * Reads one line, which ends with Enter or Ctrl-D; Backspace and Ctrl-U take back. Null where the user gives up (Ctrl-C, which
 * is no signal while every key comes to us) or `signal` is aborted. The terminal is left as it was found.
 */
export async function readHidden(
  stdin: NodeJS.ReadableStream,
  show: (text: string) => void,
  prompt: string,
  signal: AbortSignal,
): Promise<string | null> {
  const keyboard = stdin as Keyboard;
  const { promise, resolve } = Promise.withResolvers<string | null>();
  const decoder = new StringDecoder('utf8');
  let typed: string[] = [];
  const onKeys = (keys: Buffer | string): void => {
    for (const key of typeof keys === 'string' ? keys : decoder.write(keys)) {
      // What comes after the first of these is not heard: a promise is resolved once.
      if (key === INTERRUPT) resolve(null);
      else if (ENTER.test(key) || key === END) resolve(typed.join(''));
      else if (ERASE.includes(key)) typed.pop();
      else if (key === ERASE_LINE) typed = [];
      else typed.push(key);
    }
  };
  const giveUp = (): void => resolve(null);
  show(prompt);
  keyboard.setRawMode?.(true);
  keyboard.on('data', onKeys);
  keyboard.once('end', giveUp);
  signal.addEventListener('abort', giveUp, { once: true });
  try {
    return await promise;
  } finally {
    signal.removeEventListener('abort', giveUp);
    keyboard.off('data', onKeys);
    keyboard.off('end', giveUp);
    keyboard.setRawMode?.(false);
    keyboard.pause();
    show('\n');
  }
}
