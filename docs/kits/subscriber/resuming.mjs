// A graphql-ws client that goes on where it was: after each break it asks from the last cursor read.
import { createClient } from 'graphql-ws';

const RIGHTS_ENDED = 4403;

/**
 * `secret` gives the key or access token; it is asked at each connection, so a fresh one may come.
 * `missed(after, oldest)` is told when the log no longer goes back to your cursor (CURSOR_EXPIRED).
 * `ended()` is told when your rights have ended (4403): there is no use in going on.
 */
export function resumingClient({
  url, secret, missed = () => {}, ended = () => {}, pingEvery = 10_000, ...options
}) {
  let silence;
  const client = createClient({
    url,
    connectionParams: async () => ({ Authorization: `Bearer ${await secret()}` }),
    // 1012 (the server restarts), 4008 (we were too slow), 1006 (the line is cut): again, in a while.
    retryAttempts: Infinity,
    shouldRetry: (closed) => closed.code !== RIGHTS_ENDED,
    retryWait: (tries) => sleep(Math.random() * Math.min(30_000, 500 * 2 ** Math.min(tries, 10))),
    // A device that slept holds a dead line and does not know: a ping without an answer tells.
    keepAlive: pingEvery,
    on: {
      ping: (isReceived) => {
        if (!isReceived) silence = setTimeout(() => client.terminate(), pingEvery / 2);
      },
      pong: (isReceived) => isReceived && clearTimeout(silence),
      closed: (event) => {
        clearTimeout(silence);
        if (event.code === RIGHTS_ENDED) ended();
      },
    },
    ...options,
  });

  function subscribe(payload, sink) {
    // graphql-ws sends these again when it connects again: the cursor in them is kept up to date.
    const variables = { ...payload.variables };
    let stop;
    const start = () => {
      stop = client.subscribe({ ...payload, variables }, {
        next(result) {
          const cursor = result.data?.events?.cursor;
          if (cursor) variables.after = cursor;
          sink.next(result);
        },
        error(error) {
          const oldest = oldestCursor(error);
          if (oldest === undefined) return sink.error(error);
          missed(variables.after, oldest);
          variables.after = oldest;
          start();
        },
        complete: () => sink.complete(),
      });
    };
    start();
    return () => stop();
  }

  return { ...client, subscribe };
}

function oldestCursor(errors) {
  if (!Array.isArray(errors)) return undefined;
  const expired = errors.find(({ extensions }) => extensions?.code === 'CURSOR_EXPIRED');
  return expired?.extensions.oldestCursor;
}

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
