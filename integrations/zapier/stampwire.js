/** One call of Stampwire's API, with every way it can say no turned into the error Zapier knows. */
'use strict'

/** Refusals that are no fault of the Zap: it stops here, and is not counted as failed. */
const EXPECTED = new Set([
  'CARD_DELETED',
  'LIMIT_REACHED',
  'VOUCHER_ALREADY_REDEEMED',
  'VOUCHER_EXPIRED',
  'VOUCHER_NOT_ACTIVE',
])
/** Seconds to wait where the server does not say how long. */
const PAUSE = 60

/** The server's address as people type it: with or without a slash or `/graphql` at its end. */
const addressOf = (bundle) =>
  `${bundle.authData.server_url.trim().replace(/\/+$/, '').replace(/\/graphql$/, '')}/graphql`

/**
 * The data of a document. GraphQL answers 200 even where it says no, so nothing is taken on trust:
 * what came too fast waits, a dead key asks for a new connection, all else fails the step.
 */
const ask = async (z, bundle, query, variables = {}) => {
  const response = await z.request({
    method: 'POST',
    url: addressOf(bundle),
    headers: {
      accept: 'application/json',
      'content-type': 'application/json',
      authorization: `Bearer ${bundle.authData.api_key}`,
    },
    body: { query, variables },
    skipThrowForStatus: true,
    throwForThrottlingEarly: false,
  })
  const said = bodyOf(response)
  const [error] = said.errors || []
  const code = error && error.extensions ? error.extensions.code : undefined
  const message = error ? error.message : `The server answered ${response.status}.`
  if (response.status === 429 || response.status === 503 || code === 'RATE_LIMITED') {
    throw new z.errors.ThrottledError(message, pauseOf(response, error))
  }
  if (response.status === 401 || code === 'UNAUTHENTICATED') {
    throw new z.errors.ExpiredAuthError(`Stampwire does not know this API key (any more): ${message}`)
  }
  if (error) throw new z.errors.Error(message, code, response.status)
  if (!said.data) {
    const hint = 'Is the server URL right? It is the one on which /graphql answers.'
    throw new z.errors.Error(`${message} ${hint}`, 'NO_ANSWER', response.status)
  }
  return said.data
}

/** What a mutation gives. It is named by its field, whose only argument is `input`. */
const perform = async (z, bundle, field, fields, input) => {
  const type = `${field[0].toUpperCase()}${field.slice(1)}Input`
  const data = await ask(
    z,
    bundle,
    `mutation($input: ${type}!) { ${field}(input: $input) {
      ${fields} userErrors { code field message } } }`,
    { input: withoutGaps(input) }
  )
  const { userErrors, ...given } = data[field]
  const [refusal] = userErrors
  if (!refusal) return given
  if (refusal.code === 'IDEMPOTENCY_KEY_IN_PROGRESS') {
    throw new z.errors.ThrottledError(refusal.message, 5)
  }
  const text = `${refusal.message} (${refusal.code})`
  if (EXPECTED.has(refusal.code)) throw new z.errors.HaltedError(text)
  throw new z.errors.Error(text, refusal.code, 400)
}

/**
 * What makes a step that Zapier runs again harmless: the same in the same run of the same Zap,
 * another in any other. Stampwire keeps it for seven days.
 */
const idempotencyKey = (z, bundle, action) => {
  const { run_key: run, ...input } = bundle.inputData
  if (run === undefined || run === '') return undefined
  const zap = (bundle.meta && bundle.meta.zap && bundle.meta.zap.id) || ''
  const entries = Object.entries(input).sort(([one], [other]) => (one < other ? -1 : 1))
  return `zapier:${z.hash('sha256', JSON.stringify([zap, action, String(run), entries]))}`
}

/** An object without what was left empty: absent and null are not the same to GraphQL. */
const withoutGaps = (value) => {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return value
  const kept = Object.entries(value)
    .filter(([, item]) => item !== undefined && item !== null && item !== '')
    .map(([name, item]) => [name, withoutGaps(item)])
  return Object.fromEntries(kept)
}

const bodyOf = (response) => {
  try {
    return JSON.parse(response.content) || {}
  } catch {
    return {}
  }
}

const pauseOf = (response, error) => {
  const header = parseInt(response.getHeader('retry-after'), 10)
  const told = error && error.extensions ? error.extensions.retryAfterMs : undefined
  return header || Math.ceil((told || 0) / 1000) || PAUSE
}

module.exports = { ask, perform, idempotencyKey, withoutGaps }
