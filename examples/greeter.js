const { greet } = require('greeter');

// curl http://127.0.0.1:8787/invoke/greeter -H 'Content-Type: application/json' -d '{"name":"World"}'
// biome-ignore lint/correctness/noUnusedVariables: a script exports nothing; the handler is found by its name.
function handler(event) {
  return { message: greet(event.name) };
}
