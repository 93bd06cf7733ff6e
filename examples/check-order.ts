/** zod from npm: bundled at deploy. Its schema is built once, at deploy, and not at each call. */
import type { Config, HttpEvent } from 'postern';
import { z } from 'zod';

export const config: Config = { auth: 'optional' };

const Order = z.object({
  item: z.string().min(1),
  quantity: z.int().min(1).max(100),
  email: z.email(),
});

export function handler(event: HttpEvent) {
  const parsed = Order.safeParse(event.body);
  if (parsed.success) return { accepted: true, order: parsed.data };
  return { statusCode: 422, body: { accepted: false, problems: z.flattenError(parsed.error).fieldErrors } };
}
