// graphql-sse as a client, in distinct mode: an event stream for each operation.
import assert from 'node:assert/strict';
import { createClient } from 'graphql-sse';
import {
  answersOf, authorization, BUSINESS, EVENTS, hears, ISSUE, judge, nobody, resumes, somebody, url,
  WRONG,
} from './judging.mjs';

const clientOf = (headers) => createClient({
  url, headers, singleConnection: false, retryAttempts: 0,
});
const client = clientOf({ authorization });
const ask = (query, variables, by = client) =>
  answersOf((sink) => by.subscribe({ query, variables }, sink));
const begin = (after, next, fail) => client.subscribe(
  { query: EVENTS, variables: { after } },
  { next: ({ data, errors }) => (data ? next(data.events) : fail(errors)), error: fail, complete() {} },
);
const issue = async () => (await ask(ISSUE, somebody()))[0].data.issueCard;

/** A refusal of the whole request: an answer with errors, or one that is no stream. */
const refused = (query, by) => ask(query, {}, by).then(([{ errors }]) => errors, (error) => [error]);

await judge({
  async 'a query'() {
    const [{ data }] = await ask(BUSINESS);
    assert.ok(data.viewer.business.id);
  },
  async 'a mutation'() {
    assert.ok((await issue()).card.id);
  },
  async 'a refusal comes as data'() {
    const [{ data }] = await ask(ISSUE, nobody());
    assert.equal(data.issueCard.userErrors.length, 1);
  },
  async 'an invalid document is an error'() {
    assert.ok((await refused(WRONG)).length);
  },
  async 'a stranger is refused'() {
    assert.ok((await refused(BUSINESS, clientOf({}))).length);
  },
  'a subscription': () => hears(begin, issue),
  'a subscription goes on from its cursor': () => resumes(begin, issue),
});
