// graphql-ws as a client: sockets by graphql-transport-ws.
import assert from 'node:assert/strict';
import { createClient } from 'graphql-ws';
import {
  answersOf, authorization, BUSINESS, EVENTS, hears, ISSUE, judge, nobody, resumes, socketUrl,
  somebody, UNREADABLE, WRONG, WRONG_VARIABLE,
} from './judging.mjs';

const clientOf = (options = {}) => createClient({
  url: socketUrl, connectionParams: { Authorization: authorization }, retryAttempts: 0, ...options,
});
const client = clientOf({ lazy: false, onNonLazyError: () => {}, retryAttempts: 3 });
const ask = (query, variables, by = client) =>
  answersOf((sink) => by.subscribe({ query, variables }, sink));
const begin = (after, next, fail, by = client) => by.subscribe(
  { query: EVENTS, variables: { after } },
  { next: ({ data, errors }) => (data ? next(data.events) : fail(errors)), error: fail, complete() {} },
);
const issue = async (by = client) => (await ask(ISSUE, somebody(), by))[0].data.issueCard;

await judge({
  async 'a query'() {
    const [{ data, errors }] = await ask(BUSINESS);
    assert.equal(errors, undefined);
    assert.ok(data.viewer.business.id);
  },
  async 'a mutation'() {
    assert.ok((await issue()).card.id);
  },
  async 'a refusal comes as data'() {
    const [{ data }] = await ask(ISSUE, nobody());
    assert.equal(data.issueCard.userErrors.length, 1);
  },
  async 'an invalid document is an error of its operation'() {
    await assert.rejects(ask(WRONG), ([error]) => error.extensions.code === 'GRAPHQL_VALIDATION_FAILED');
  },
  async 'a wrong variable is an error of its operation'() {
    const failed = await ask(WRONG_VARIABLE, {}).then(([{ errors }]) => errors, (errors) => errors);
    assert.equal(failed[0].extensions.code, 'BAD_USER_INPUT');
  },
  async 'an unreadable document leaves the other operations alone'() {
    const before = (await issue()).events.at(-1);
    let heard;
    const waiting = new Promise((resolve, reject) => {
      heard = begin(before.cursor, resolve, reject);
    });
    await assert.rejects(ask(UNREADABLE), ([error]) => error.extensions.code === 'GRAPHQL_PARSE_FAILED');
    await issue();
    assert.ok((await waiting).cursor);
    heard();
  },
  'a subscription': () => hears(begin, issue),
  'a subscription goes on from its cursor': () => resumes(begin, issue),
  async 'a subscription goes on after its line was cut'() {
    const following = clientOf({ retryAttempts: 5, retryWait: () => Promise.resolve() });
    const { events } = await issue();
    const variables = { after: events.at(-1).cursor };
    const told = [];
    let wake = () => {};
    const stop = following.subscribe({ query: EVENTS, variables }, {
      next({ data }) {
        variables.after = data.events.cursor;
        told.push(data.events.cursor);
        wake();
      },
      error() {},
      complete() {},
    });
    const reaches = async (count) => {
      while (told.length < count) await new Promise((resolve) => { wake = resolve; });
    };
    const first = (await issue()).events.map(({ cursor }) => cursor);
    await reaches(first.length);
    following.terminate();
    const second = (await issue()).events.map(({ cursor }) => cursor);
    await reaches(first.length + second.length);
    stop();
    assert.deepEqual(told, [...first, ...second]);
  },
  async 'whoever has no key is closed with 4403'() {
    const stranger = clientOf({ connectionParams: {} });
    await assert.rejects(ask(BUSINESS, {}, stranger), (event) => event.code === 4403);
  },
});
