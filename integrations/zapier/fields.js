/** Form fields that several steps share, what they mean to the API, and what comes back. */
'use strict'

const template = {
  key: 'template_id',
  label: 'Card Template',
  type: 'string',
  dynamic: 'card_templates.id.name',
}

const card = [
  {
    key: 'card',
    label: 'Card',
    type: 'string',
    helpText:
      "The card's ID, its number, or its scanned token. Leave it empty to find the card by the " +
      "customer's email or phone and the card template.",
  },
  { key: 'email', label: 'Customer Email', type: 'string' },
  {
    key: 'phone',
    label: 'Customer Phone',
    type: 'string',
    helpText: 'International, such as +62811234567.',
  },
  { ...template, required: false },
]

const runKey = {
  key: 'run_key',
  label: 'Run Key',
  type: 'string',
  required: true,
  helpText:
    "Anything that is unique to this run: map the trigger's ID. When Zapier repeats the step " +
    '(a replay, a lost answer), Stampwire then does nothing twice.',
}

const CARD = `id number status stamps stampsRequired cycle joinUrl walletPassId
  template { id name } customer { id name email phone language }`
const VOUCHER = `id title status redeemCode source issuedAt expiresAt redeemedAt redeemedVia
  card { id number }`
const CUSTOMER = 'id name email phone birthday language createdAt lastActivityAt'

/** A customer as the API finds one: by email where it is given, else by phone. */
const customerRef = ({ email, phone }) => (email ? { email } : { phone })

/** A card as the API finds one, by the fields of `card`; undefined where all are empty. */
const cardRef = (input) => {
  const told = String(input.card ?? '').trim()
  if (told) {
    if (told.startsWith('card_')) return { id: told }
    return /^\d+$/.test(told) ? { number: told } : { token: told }
  }
  if (!input.email && !input.phone) return undefined
  return { holder: { templateId: input.template_id, customer: customerRef(input) } }
}

/** The same, where a card is needed. */
const neededCardRef = (z, input) => {
  const ref = cardRef(input)
  const isWhole = ref && (!ref.holder || ref.holder.templateId)
  if (isWhole) return ref
  throw new z.errors.Error(
    'Name the card: by its ID, number or token, or by email or phone and the card template.',
    'INVALID',
    400
  )
}

module.exports = {
  template,
  card,
  runKey,
  CARD,
  VOUCHER,
  CUSTOMER,
  customerRef,
  cardRef,
  neededCardRef,
}
