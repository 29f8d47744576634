// A receiver of webhooks that needs nothing but Node: it verifies, stores once, and answers.
import { createHmac, timingSafeEqual } from 'node:crypto';
import { closeSync, fsyncSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import { createServer } from 'node:http';

const { PORT = '9000', WEBHOOK_SECRET = '', DELIVERIES = 'deliveries.jsonl' } = process.env;
const KEY = Buffer.from(WEBHOOK_SECRET.replace(/^whsec_/, ''), 'base64');
if (!KEY.length) throw new Error('WEBHOOK_SECRET is the endpoint’s signing secret: whsec_…');
const TOLERANCE = 300; // seconds
const MOST_BYTES = 1_000_000;

/** Whether a request was signed with the secret, just now, and is as it was sent. */
function isOurs(headers, body) {
  const sentAt = headers['webhook-timestamp'] ?? '';
  if (!/^[0-9]{1,12}$/.test(sentAt)) return false;
  if (Math.abs(Date.now() / 1000 - Number(sentAt)) > TOLERANCE) return false;
  const signed = `${headers['webhook-id']}.${sentAt}.`;
  const hmac = createHmac('sha256', KEY).update(signed).update(body);
  const wanted = Buffer.from(`v1,${hmac.digest('base64')}`);
  // There is a signature for each secret that is live: two, while the secret is rotated.
  return (headers['webhook-signature'] ?? '').split(' ').some((one) => {
    const given = Buffer.from(one);
    return given.length === wanted.length && timingSafeEqual(given, wanted);
  });
}

// A file with a line for each delivery; it only grows.
closeSync(openSync(DELIVERIES, 'a'));
const stored = readFileSync(DELIVERIES);
const end = stored.lastIndexOf('\n') + 1;
const lines = stored.subarray(0, end).toString().split('\n').slice(0, -1);
const ids = new Set(lines.map((line) => JSON.parse(line)['webhook-id']));
const file = openSync(DELIVERIES, 'a');
// What follows the last line end was cut off by a crash, and not answered: it comes again.
ftruncateSync(file, end);

/** Stores a delivery for good; its line, or undefined if it is stored already. */
function store(headers, body) {
  const id = headers['webhook-id'];
  if (ids.has(id)) return undefined;
  const line = JSON.stringify({
    'webhook-id': id,
    'webhook-previous-id': headers['webhook-previous-id'] ?? null,
    'webhook-attempt-kind': headers['webhook-attempt-kind'] ?? null,
    sequence: JSON.parse(body).sequence ?? null,
    body: body.toString(),
  });
  writeSync(file, `${line}\n`);
  fsyncSync(file);
  ids.add(id);
  return line;
}

const server = createServer(async (request, response) => {
  const answer = (status) => response.writeHead(status).end();
  if (request.method !== 'POST') return answer(405);
  const parts = [];
  let size = 0;
  try {
    for await (const part of request) {
      size += part.length;
      if (size > MOST_BYTES) return answer(413);
      parts.push(part); // the bytes as they came, not what a parser makes of them
    }
  } catch {
    return undefined; // the line was cut
  }
  const body = Buffer.concat(parts);
  if (!isOurs(request.headers, body)) return answer(401);
  const line = store(request.headers, body);
  answer(204);
  if (line) console.log(line); // your work goes here, after the answer
  return undefined;
});
server.requestTimeout = 10_000;
server.listen(Number(PORT), '127.0.0.1', () => {
  console.log(`receiving on http://127.0.0.1:${PORT}/`);
});
