/** What is evaluated in every fresh engine before user code: web globals, the host functions' faces, the entry points. */

import { createHostFaces } from '../../host-functions/guest/index.ts';
import { createGuest } from '../../runtime/javascript/guest/index.ts';
import { installWebGlobals } from '../../runtime/javascript/guest/web/index.ts';

const scope = globalThis as unknown as Record<string, unknown>;

const faces = createHostFaces();
installWebGlobals({ httpFetch: faces.httpFetch, log: faces.logMessage });
for (const name of ['db', 'log', 'env', 'http'] as const) {
  Object.defineProperty(scope, name, { value: faces[name], writable: true, configurable: true, enumerable: false });
}
scope.__postern_guest = createGuest(faces.setMeta);
