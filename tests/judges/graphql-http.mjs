// The audits of graphql-http: GraphQL over HTTP as its specification wants it.
import { serverAudits } from 'graphql-http';
import { authorization, say, url } from './judging.mjs';

const fetchFn = (address, options = {}) =>
  fetch(address, { ...options, headers: { authorization, ...options.headers } });

const verdicts = [];
for (const audit of serverAudits({ url, fetchFn })) {
  const result = await audit.fn();
  await result.response?.body?.cancel().catch(() => {});
  verdicts.push({
    name: `${audit.id} ${audit.name}`,
    passed: result.status === 'ok',
    reason: `${result.status}: ${result.reason ?? ''}`,
  });
}
say(verdicts);
