import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';

/** What a client still sends of a body that was refused: some 30 Mbit/s for a body of twice the limit. */
const DRAIN_MS = 2_000;
const DRAIN_BYTES = 64 * 2 ** 20;
const WATCH_MS = 20;

/**
 * For a request that is answered before its body was read, over a connection that is closed then. Closing a socket with
 * unread bytes resets it, and most clients read no answer before they have sent their body: they would see a broken pipe
 * instead of it. So the closing waits until the body has come, or for DRAIN_MS or DRAIN_BYTES, and drops what it reads.
 *
 * `destroySoon` is how Node closes a connection after its last answer; a connection that is kept is drained by Node.
 */
export function drainBeforeClose(request: IncomingMessage): void {
  const { socket, headers } = request;
  if (headers['content-length'] === undefined && headers['transfer-encoding'] === undefined) return;
  socket.destroySoon = () => {
    // The prototype's method is there again.
    Reflect.deleteProperty(socket, 'destroySoon');
    if (request.complete || socket.destroyed) socket.destroySoon();
    else drain(request, socket);
  };
}

function drain(request: IncomingMessage, socket: Socket): void {
  const startedAt = performance.now();
  const startedWith = socket.bytesRead;
  // Node hands the bytes of a dropped body to nobody who could count them.
  const watch = setInterval(() => {
    if (performance.now() - startedAt > DRAIN_MS || socket.bytesRead - startedWith > DRAIN_BYTES) close();
  }, WATCH_MS);
  const close = (): void => {
    clearInterval(watch);
    request.off('end', close).off('close', close);
    socket.destroySoon();
  };
  request.once('end', close).once('close', close).resume();
}
