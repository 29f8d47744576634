// What the judges in JavaScript share: the server they are told, and how a verdict is said.
import assert from 'node:assert/strict';
import { WebSocket } from 'ws';

globalThis.WebSocket ??= WebSocket; // browsers, and Node from 22 on, have their own

const PATIENCE = 15_000;

export const { url = '', key, templateId } = JSON.parse(process.env.JUDGED ?? '{}');
export const socketUrl = url.replace('http', 'ws');
export const authorization = `Bearer ${key}`;

export const BUSINESS = 'query Business { viewer { business { id name } } }';
export const ISSUE = `mutation Issue($input: IssueCardInput!) {
  issueCard(input: $input) { card { id } events { id cursor } userErrors { code field message } }
}`;
export const EVENTS = `subscription Events($after: String) {
  events(after: $after) { cursor sequence type }
}`;
export const WRONG = 'query Wrong { viewer { noSuchField } }';
export const WRONG_VARIABLE = 'query Where($id: ID!) { node(id: $id) { id } }';
export const UNREADABLE = 'query Unreadable {';

/** The input of a mutation that causes events, another each time. */
export const somebody = () => ({
  input: { templateId, customer: { email: `${crypto.randomUUID()}@judges.example` } },
});

/** The input of a mutation that is refused. */
export const nobody = () => ({
  input: { templateId: 'tpl_none', customer: { email: 'nobody@judges.example' } },
});

/** What an operation of a client with sinks is told, to its end. */
export function answersOf(start) {
  return new Promise((resolve, reject) => {
    const told = [];
    start({
      next: (result) => told.push(result),
      error: reject,
      complete: () => resolve(told),
    });
  });
}

/** So many events beyond a cursor; `begin(after, next, fail)` subscribes and gives what stops it. */
export async function eventsBeyond(begin, after, count) {
  const told = [];
  let stop;
  try {
    await new Promise((resolve, reject) => {
      stop = begin(after, (event) => {
        told.push(event);
        if (told.length >= count) resolve();
      }, reject);
    });
  } finally {
    stop?.();
  }
  return told.slice(0, count);
}

/** Subscribe, go away, let something happen, come back: nothing is missed, nothing comes twice. */
export async function resumes(begin, issue) {
  const [first] = (await issue()).events;
  await issue();
  const [heard] = await eventsBeyond(begin, first.cursor, 1);
  const missed = await issue();
  const later = await eventsBeyond(begin, heard.cursor, missed.events.length);
  const sequences = [heard, ...later].map(({ sequence }) => sequence);
  assert.deepEqual(sequences, sequences.map((_, index) => heard.sequence + index));
  assert.equal(later.at(-1).cursor, missed.events.at(-1).cursor);
}

/** An event comes to whoever waits for it. */
export async function hears(begin, issue) {
  const before = (await issue()).events.at(-1);
  const waiting = eventsBeyond(begin, before.cursor, 1);
  const [event] = (await issue()).events;
  assert.equal((await waiting)[0].cursor, event.cursor);
}

/** Run each scenario, and say how each went. */
export async function judge(scenarios) {
  const verdicts = [];
  for (const [name, scenario] of Object.entries(scenarios)) {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error('it takes too long')), PATIENCE);
    });
    try {
      await Promise.race([scenario(), late]);
      verdicts.push({ name, passed: true });
    } catch (error) {
      verdicts.push({ name, passed: false, reason: said(error) });
    }
    clearTimeout(timer);
  }
  say(verdicts);
}

/** Say the verdicts, and end. */
export function say(verdicts) {
  process.stdout.write(JSON.stringify(verdicts), () => process.exit(0));
}

const said = (error) => (error instanceof Error ? `${error}` : JSON.stringify(error));
