// Following the events with graphql-ws alone.
import { resumingClient } from './resuming.mjs';

const EVENTS = `subscription($after: String) {
  events(after: $after) { cursor type payload }
}`;

/** `handle(event)` does its work and keeps `event.cursor` with it. Gives a function that stops. */
export function follow({ cursor, handle, ...options }) {
  const client = resumingClient(options);
  const stop = client.subscribe({ query: EVENTS, variables: { after: cursor } }, {
    next: ({ data, errors }) => (data ? handle(data.events) : console.error(errors)),
    error: (error) => console.error('the subscription has ended', error),
    complete: () => {},
  });
  return () => {
    stop();
    client.dispose();
  };
}
