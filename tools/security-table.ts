/** Writes docs/security.md from the names of the tests. */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT, securityPage } from './security-cases.ts';

writeFileSync(join(ROOT, 'docs/security.md'), securityPage());
