/** A Hono app: routes below /functions/v1/todo-app. Rows belong to the caller, by row-level security (schema.sql). */
import { Hono } from 'hono';

const todos = new Hono();

todos.get('/', async (c) => c.json(await db.query('select id, title, done from todos order by id')));

todos.post('/', async (c) => {
  const { title } = await c.req.json<{ title?: string }>();
  if (!title) return c.json({ error: 'a todo needs a title' }, 400);
  const [todo] = await db.query('insert into todos (title) values ($1) returning id, title, done', [title]);
  return c.json(todo, 201);
});

todos.post('/:id/done', async (c) => {
  const { rowCount } = await db.query('update todos set done = true where id = $1', [Number(c.req.param('id'))]);
  return rowCount === 0 ? c.notFound() : c.body(null, 204);
});

const app = new Hono();
for (const path of ['/functions/v1/todo-app', '/functions/v1/invoke/todo-app']) app.route(path, todos);

export default app;
