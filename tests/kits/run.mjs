// Runs one kit of the subscriber and says what it is told, a line of JSON each.
import { WebSocket } from 'ws';

globalThis.WebSocket ??= WebSocket; // browsers, and Node from 22 on, have their own

const [kit, url, token, cursor] = process.argv.slice(2);
const { follow } = await import(kit);
const say = (told) => process.stdout.write(`${JSON.stringify(told)}\n`);

const stop = follow({
  url,
  cursor,
  secret: () => token,
  handle: (event) => say({ cursor: event.cursor, payload: event.payload }),
  missed: (after, oldest) => say({ missed: [after, oldest] }),
  ended: () => {
    say({ ended: true });
    stop();
  },
  pingEvery: 400,
});
