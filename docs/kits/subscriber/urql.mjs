// Following the events with urql.
import { Client, subscriptionExchange } from '@urql/core';
import { resumingClient } from './resuming.mjs';

const EVENTS = `subscription($after: String) {
  events(after: $after) { cursor type payload }
}`;

/** `handle(event)` does its work and keeps `event.cursor` with it. Gives a function that stops. */
export function follow({ cursor, handle, ...options }) {
  const socket = resumingClient(options);
  const client = new Client({
    url: options.url,
    preferGetMethod: false,
    exchanges: [
      subscriptionExchange({
        forwardSubscription: ({ query, variables }) => ({
          subscribe: (sink) => ({ unsubscribe: socket.subscribe({ query, variables }, sink) }),
        }),
      }),
    ],
  });
  const subscription = client.subscription(EVENTS, { after: cursor }).subscribe(
    ({ data, error }) => (data ? handle(data.events) : console.error(error)),
  );
  return () => {
    subscription.unsubscribe();
    socket.dispose();
  };
}
