/** Programs in C, as commands. */

import type { CommandProgram } from '../../../../runtime/command/command-program.ts';
import { compileC } from '../../../support/compile-c.ts';
import { programOf } from './commands.ts';

/** As a program, with what most need included. */
export async function programOfC(source: string, flags: readonly string[] = []): Promise<CommandProgram> {
  return programOf(await compileC(`${INCLUDES}\n${source}`, flags));
}

/** Of `int main(int argc, char **argv)`. */
export function mainOfC(body: string, top = ''): Promise<CommandProgram> {
  return programOfC(`${top}\nint main(int argc, char **argv) {\n${body}\nreturn 0; }`);
}

const INCLUDES = `#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <errno.h>
#include <time.h>
#include "postern.h"`;
