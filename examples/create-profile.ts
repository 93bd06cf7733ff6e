/** A profile for everyone who signs up: runs after a row of `users` has been committed. */
import type { Config, DatabaseEvent } from 'postern';

export const config: Config = {
  trigger: { type: 'database', table: 'users', operations: 'INSERT' },
  db: { role: 'service_role' },
};

export async function handler(event: DatabaseEvent<{ id: string; email: string }>) {
  const user = event.new!;
  const name = user.email.split('@')[0]!;
  // An event may come twice: the second insert has to change nothing.
  await db.query('insert into profiles (user_id, display_name) values ($1, $2) on conflict (user_id) do nothing', [
    user.id,
    name,
  ]);
  log.info('profile created', { user: user.id, name });
}
