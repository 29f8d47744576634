// Following the events with Apollo Client.
import { ApolloClient, InMemoryCache, gql } from '@apollo/client';
import { GraphQLWsLink } from '@apollo/client/link/subscriptions';
import { resumingClient } from './resuming.mjs';

const EVENTS = gql`subscription($after: String) {
  events(after: $after) { cursor type payload }
}`;

/** `handle(event)` does its work and keeps `event.cursor` with it. Gives a function that stops. */
export function follow({ cursor, handle, ...options }) {
  const socket = resumingClient(options);
  const client = new ApolloClient({ link: new GraphQLWsLink(socket), cache: new InMemoryCache() });
  const subscription = client
    // What happened is handled once, and not kept: the cache would only grow.
    .subscribe({ query: EVENTS, variables: { after: cursor }, fetchPolicy: 'no-cache' })
    .subscribe({
      next: ({ data, error }) => (data ? handle(data.events) : console.error(error)),
      error: (error) => console.error('the subscription has ended', error),
    });
  return () => {
    subscription.unsubscribe();
    client.stop();
    socket.dispose();
  };
}
