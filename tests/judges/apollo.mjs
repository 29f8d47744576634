// Apollo Client, over HTTP and over sockets; subscriptions also as multipart answers of HTTP.
import assert from 'node:assert/strict';
import { ApolloClient, ApolloLink, CombinedGraphQLErrors, HttpLink, InMemoryCache, gql } from '@apollo/client';
import { GraphQLWsLink } from '@apollo/client/link/subscriptions';
import { OperationTypeNode } from 'graphql';
import { createClient } from 'graphql-ws';
import {
  authorization, BUSINESS, EVENTS, hears, ISSUE, judge, nobody, resumes, socketUrl, somebody, url,
  WRONG,
} from './judging.mjs';

const overHttp = new HttpLink({ uri: url, headers: { authorization } });
const overSocket = new GraphQLWsLink(createClient({
  url: socketUrl, connectionParams: { Authorization: authorization }, retryAttempts: 0,
}));
const clientWith = (link) =>
  new ApolloClient({ link, cache: new InMemoryCache(), defaultOptions: { query: { fetchPolicy: 'no-cache' } } });
const split = clientWith(ApolloLink.split(
  ({ operationType }) => operationType === OperationTypeNode.SUBSCRIPTION, overSocket, overHttp,
));
const sockets = clientWith(overSocket);
const multipart = clientWith(overHttp);

const query = async (client) =>
  assert.ok((await client.query({ query: gql(BUSINESS) })).data.viewer.business.id);
const issue = async (client = split) =>
  (await client.mutate({ mutation: gql(ISSUE), variables: somebody() })).data.issueCard;
const beginOn = (client) => (after, next, fail) => {
  const heard = client
    .subscribe({ query: gql(EVENTS), variables: { after }, fetchPolicy: 'no-cache' })
    .subscribe({ next: ({ data, error }) => (data ? next(data.events) : fail(error)), error: fail });
  return () => heard.unsubscribe();
};
const begin = beginOn(split);
const isInvalid = (error) => CombinedGraphQLErrors.is(error)
  && error.errors[0].extensions.code === 'GRAPHQL_VALIDATION_FAILED';

await judge({
  'a query over HTTP': () => query(split),
  'a query over a socket': () => query(sockets),
  async 'a mutation over HTTP'() {
    assert.ok((await issue()).card.id);
  },
  async 'a mutation over a socket'() {
    assert.ok((await issue(sockets)).card.id);
  },
  async 'a refusal comes as data'() {
    const { data } = await split.mutate({ mutation: gql(ISSUE), variables: nobody() });
    assert.equal(data.issueCard.userErrors.length, 1);
  },
  'an error over HTTP': () => assert.rejects(split.query({ query: gql(WRONG) }), isInvalid),
  'an error over a socket': () => assert.rejects(sockets.query({ query: gql(WRONG) }), isInvalid),
  'a subscription': () => hears(begin, issue),
  'a subscription goes on from its cursor': () => resumes(begin, issue),
  'a subscription as a multipart answer': () => hears(beginOn(multipart), issue),
  'a multipart answer goes on from its cursor': () => resumes(beginOn(multipart), issue),
});
