/** What starts a Zap: one instant trigger for each type of event, all made by one function. */
'use strict'

const crypto = require('crypto')

const contacts = require('./contacts')
const events = require('./events.json')
const { ask, perform } = require('./stampwire')

/** How old a signature may be, in seconds. */
const FRESH = 300
/** Zapier's editor shows as many. */
const SAMPLES = 3

/**
 * Make an endpoint for a Zap that was switched on. Without an idempotency key: a repeat would be
 * told no secret, and an endpoint whose Zap never knew of it ends itself, by Zapier's 410.
 */
const subscribe = (event) => async (z, bundle) => {
  const { endpoint, signingSecret } = await perform(
    z,
    bundle,
    'createWebhookEndpoint',
    'endpoint { id url } signingSecret',
    {
      url: bundle.targetUrl,
      types: [event.name],
      vocabulary: 'EN',
      name: `Zapier: ${event.label}`,
    }
  )
  return { id: endpoint.id, url: endpoint.url, signingSecret }
}

/** Delete the endpoint of a Zap that was switched off. One that is gone is what was asked for. */
const unsubscribe = async (z, bundle) => {
  const { id } = bundle.subscribeData || {}
  if (!id) return {}
  try {
    const { deletedId } = await perform(z, bundle, 'deleteWebhookEndpoint', 'deletedId', { id })
    return { id: deletedId }
  } catch (error) {
    if (/NOT_FOUND|ENDPOINT_DELETED/.test(error.message)) return { id }
    throw error
  }
}

/** What arrived. Nothing, where it is not from us: then the Zap does not run. */
const receive = async (z, bundle) => {
  const body = bundle.cleanedRequest
  if (!body || !body.id || !isOurs(bundle)) return []
  return [await contacts.lookUp(z, bundle, body)]
}

/** What really happened of late, exactly as it would arrive; a sample where nothing has. */
const recent = (event) => async (z, bundle) => {
  const choice = contacts.choiceOf(bundle)
  const { events: page, eventSample } = await ask(
    z,
    bundle,
    `query($type: EventType!, $first: Int) {
      events(filter: { types: [$type] }, first: $first) {
        nodes { data(vocabulary: EN) ${contacts.whoOf(choice)} } }
      eventSample(type: $type, vocabulary: EN) { data } }`,
    { type: event.name, first: SAMPLES }
  )
  if (page.nodes.length === 0) return [contacts.withWho(eventSample.data, null, choice)]
  return page.nodes.map(({ data, ...told }) => contacts.withWho(data, told, choice))
}

/**
 * Whether a request is signed by the endpoint's secret (Standard Webhooks), and not long ago.
 * `invoke` and the editor run this without a request of Stampwire's: then nothing is signed.
 */
const isOurs = (bundle) => {
  const { signingSecret } = bundle.subscribeData || {}
  const { headers, content } = bundle.rawRequest || {}
  if (!signingSecret || !headers || typeof content !== 'string') return true
  const told = {}
  for (const [name, value] of Object.entries(headers)) {
    // Zapier puts `Http-` before headers that it does not know.
    told[name.toLowerCase().replace(/^http-/, '')] = value
  }
  const id = told['webhook-id']
  const at = told['webhook-timestamp']
  if (!id || Math.abs(Date.now() / 1000 - Number(at)) > FRESH) return false
  const key = Buffer.from(signingSecret.replace(/^whsec_/, ''), 'base64')
  const wanted = crypto.createHmac('sha256', key).update(`${id}.${at}.${content}`).digest('base64')
  return String(told['webhook-signature'])
    .split(' ')
    .some((given) => isSame(given, `v1,${wanted}`))
}

const isSame = (given, wanted) => {
  const [one, other] = [Buffer.from(given), Buffer.from(wanted)]
  return one.length === other.length && crypto.timingSafeEqual(one, other)
}

const triggerOf = (event) => ({
  key: event.type,
  noun: event.noun,
  display: { label: event.label, description: event.description },
  operation: {
    type: 'hook',
    inputFields: [contacts.field],
    performSubscribe: subscribe(event),
    performUnsubscribe: unsubscribe,
    performList: recent(event),
    perform: receive,
    sample: contacts.withWho(event.sample, null, 'none'),
  },
})

module.exports = Object.fromEntries(events.map((event) => [event.type, triggerOf(event)]))
