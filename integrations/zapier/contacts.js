/** Who an event is about: contact data and the card as it is now, looked up by the event's id. */
'use strict'

const { ask } = require('./stampwire')

const CARD = 'card { number stamps stampsRequired joinUrl template { name } }'
const CUSTOMER = 'customer { name email phone consents { channel granted } }'
/** Whether contact data comes along, and of whom. */
const CHOICES = {
  consented: 'Of those who agreed to be written to (as bodies with includeContact)',
  all: 'Of everybody: you answer for what you do with it',
  none: 'None',
}

const field = {
  key: 'contact',
  label: 'Contact Data',
  type: 'string',
  choices: CHOICES,
  default: 'consented',
  required: false,
  helpText:
    'Events carry no name, email or phone. They are looked up when an event arrives, with the ' +
    'rights of your API key. The card as it is then comes along in any case.',
}

/** What a user chose, and what is asked for because of it. */
const choiceOf = (bundle) => bundle.inputData.contact || 'consented'
const whoOf = (choice) => (choice === 'none' ? CARD : `${CARD} ${CUSTOMER}`)

/** An event with what was looked up beside it; empty fields where there is nothing to tell. */
const withWho = (event, told, choice) => {
  const { customer, card } = told || {}
  return {
    ...event,
    contact: contactOf(customer, choice),
    card_now: {
      number: card ? card.number : null,
      stamps: card ? card.stamps : null,
      stamps_required: card ? card.stampsRequired : null,
      page: card ? card.joinUrl : null,
      template: card && card.template ? card.template.name : null,
    },
  }
}

/** The event, with who it is about. A test event is in no log: nobody is found for it. */
const lookUp = async (z, bundle, event) => {
  const choice = choiceOf(bundle)
  if (!event.sequence) return withWho(event, null, choice)
  const { node } = await ask(
    z,
    bundle,
    `query($id: ID!) { node(id: $id) { ... on Event { ${whoOf(choice)} } } }`,
    { id: event.id }
  )
  return withWho(event, node, choice)
}

/** The same rule by which an endpoint with `includeContact` tells: email by EMAIL, phone by MESSENGERS. */
const contactOf = (customer, choice) => {
  const nobody = { name: null, email: null, phone: null }
  if (!customer || choice === 'none') return nobody
  const { name, email, phone } = customer
  if (choice === 'all') return { name, email, phone }
  const granted = new Set(
    customer.consents.filter((consent) => consent.granted).map((consent) => consent.channel)
  )
  if (granted.size === 0) return nobody
  return {
    name,
    email: granted.has('EMAIL') ? email : null,
    phone: granted.has('MESSENGERS') ? phone : null,
  }
}

module.exports = { field, choiceOf, whoOf, withWho, lookUp }
