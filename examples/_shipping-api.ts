/**
 * A stand-in for the shipping company of ship-order.ts: `node examples/_shipping-api.ts`, then insert a paid order. Runs on
 * your machine, not in a sandbox: the `_` says that it is no function.
 */
import { createHash } from 'node:crypto';
import { createServer, type Server } from 'node:http';

export function startShippingApi(port = 9099): Promise<Server> {
  const shipped = new Map<string, string>();
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    const { address } = JSON.parse(body || '{}') as { address?: string };
    const key = String(request.headers['idempotency-key'] ?? body);
    if (!address) return response.writeHead(422).end('there is no address');
    const tracking = shipped.get(key) ?? `PST-${createHash('sha256').update(key).digest('hex').slice(0, 8)}`;
    shipped.set(key, tracking);
    return response.writeHead(201, { 'content-type': 'application/json' }).end(JSON.stringify({ tracking }));
  });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, 'localhost', () => resolve(server));
  });
}

if (import.meta.main) {
  await startShippingApi();
  console.log('shipping API on http://localhost:9099');
}
