// urql, over HTTP, over sockets, and with subscriptions over HTTP as event streams.
import assert from 'node:assert/strict';
import { Client, fetchExchange, subscriptionExchange } from '@urql/core';
import { createClient } from 'graphql-ws';
import {
  authorization, BUSINESS, EVENTS, hears, ISSUE, judge, nobody, resumes, socketUrl, somebody, url,
  WRONG,
} from './judging.mjs';

const socket = createClient({
  url: socketUrl, connectionParams: { Authorization: authorization }, retryAttempts: 0,
});
const clientWith = (...exchanges) => new Client({
  url, preferGetMethod: false, fetchOptions: { headers: { authorization } }, exchanges,
});
const overSocket = subscriptionExchange({
  forwardSubscription: ({ query, variables }) => ({
    subscribe: (sink) => ({ unsubscribe: socket.subscribe({ query, variables }, sink) }),
  }),
});
const client = clientWith(overSocket, fetchExchange);
const streams = new Client({
  url, preferGetMethod: false, fetchOptions: { headers: { authorization } },
  fetchSubscriptions: true, exchanges: [fetchExchange],
});

const issue = async () => (await client.mutation(ISSUE, somebody())).data.issueCard;
const beginBy = (by) => (after, next, fail) => {
  const heard = by.subscription(EVENTS, { after })
    .subscribe(({ data, error }) => (data ? next(data.events) : fail(error)));
  return () => heard.unsubscribe();
};

await judge({
  async 'a query'() {
    const { data, error } = await client.query(BUSINESS, {});
    assert.equal(error, undefined);
    assert.ok(data.viewer.business.id);
  },
  async 'a query by GET'() {
    const { data } = await client.query(BUSINESS, {}, { preferGetMethod: 'force' });
    assert.ok(data.viewer.business.id);
  },
  async 'a mutation'() {
    assert.ok((await issue()).card.id);
  },
  async 'a refusal comes as data'() {
    const { data } = await client.mutation(ISSUE, nobody());
    assert.equal(data.issueCard.userErrors.length, 1);
  },
  async 'an error'() {
    const { error } = await client.query(WRONG, {});
    assert.equal(error.graphQLErrors[0].extensions.code, 'GRAPHQL_VALIDATION_FAILED');
  },
  'a subscription over a socket': () => hears(beginBy(client), issue),
  'a subscription over a socket goes on from its cursor': () => resumes(beginBy(client), issue),
  'a subscription over an event stream': () => hears(beginBy(streams), issue),
  'a subscription over an event stream goes on from its cursor': () => resumes(beginBy(streams), issue),
});
