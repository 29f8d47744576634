/** What a Zap can do: issue a card, add stamps, issue a voucher, redeem a voucher. */
'use strict'

const fields = require('./fields')
const { perform, idempotencyKey } = require('./stampwire')

const CARD_SAMPLE = {
  id: 'card_01jwsample0000000000000000',
  number: '113772',
  status: 'ACTIVE',
  stamps: 3,
  stampsRequired: 6,
  cycle: 1,
  joinUrl: 'https://stamps.example/c/sample',
  walletPassId: 'wp_01jwsample0000000000000000',
  template: { id: 'tpl_01jwsample0000000000000000', name: 'Coffee card' },
  customer: {
    id: 'c_01jwsample0000000000000000',
    name: 'Ana',
    email: 'ana@mail.example',
    phone: null,
    language: 'en',
  },
}
const VOUCHER_SAMPLE = {
  id: 'v_01jwsample0000000000000000',
  title: 'Free coffee',
  status: 'ACTIVE',
  redeemCode: 'FREECOFFEE',
  source: 'MANUAL',
  issuedAt: '2026-05-11T12:34:56Z',
  expiresAt: null,
  redeemedAt: null,
  redeemedVia: null,
  card: { id: 'card_01jwsample0000000000000000', number: '113772' },
}

/** A card for a customer. Who holds one of this template already keeps it: `created` tells. */
const issueCard = async (z, bundle) => {
  const input = bundle.inputData
  const given = await perform(
    z,
    bundle,
    'issueCard',
    `card { ${fields.CARD} } created customerCreated`,
    {
      idempotencyKey: idempotencyKey(z, bundle, 'issue_card'),
      templateId: input.template_id,
      customer: {
        email: input.email,
        phone: input.phone,
        name: input.name,
        birthday: input.birthday,
        language: input.language,
      },
      sendLink: input.send_link ? 'EMAIL' : undefined,
    }
  )
  return { ...given.card, created: given.created, customer_created: given.customerCreated }
}

const addStamps = async (z, bundle) => {
  const input = bundle.inputData
  const given = await perform(
    z,
    bundle,
    'addStamps',
    `operation { id count before after } card { ${fields.CARD} }
     rewards { id type title voucher { id redeemCode } } lotteryTickets { id }`,
    {
      idempotencyKey: idempotencyKey(z, bundle, 'add_stamps'),
      card: fields.neededCardRef(z, input),
      count: input.count,
      amount: input.amount === undefined ? undefined : String(input.amount),
      externalRef: input.external_ref,
      issueIfMissing: Boolean(input.issue_if_missing),
    }
  )
  return { id: given.operation.id, ...given }
}

const issueVoucher = async (z, bundle) => {
  const input = bundle.inputData
  const { voucher } = await perform(z, bundle, 'issueVoucher', `voucher { ${fields.VOUCHER} }`, {
    idempotencyKey: idempotencyKey(z, bundle, 'issue_voucher'),
    templateId: input.voucher_template_id,
    custom: input.voucher_template_id ? undefined : { title: input.title },
    card: fields.cardRef(input),
    redeemCode: input.redeem_code,
  })
  return voucher
}

/** A voucher by its ID or token; by its code, the card or customer tells whose it is. */
const redeemVoucher = async (z, bundle) => {
  const input = bundle.inputData
  const told = String(input.voucher ?? '').trim()
  const byCode = {
    code: {
      redeemCode: input.redeem_code,
      card: input.card ? fields.cardRef(input) : undefined,
      customer: !input.card && (input.email || input.phone) ? fields.customerRef(input) : undefined,
    },
  }
  if (!told && !input.redeem_code) {
    throw new z.errors.Error('Name the voucher: by its ID, token or redeem code.', 'INVALID', 400)
  }
  const bySelf = told.startsWith('v_') ? { id: told } : { token: told }
  const { voucher } = await perform(z, bundle, 'redeemVoucher', `voucher { ${fields.VOUCHER} }`, {
    idempotencyKey: idempotencyKey(z, bundle, 'redeem_voucher'),
    voucher: told ? bySelf : byCode,
  })
  return voucher
}

module.exports = {
  issue_card: {
    key: 'issue_card',
    noun: 'Card',
    display: {
      label: 'Issue Card',
      description: 'Issues a stamp card to a customer; who holds one already keeps it.',
    },
    operation: {
      inputFields: [
        { ...fields.template, required: true },
        { key: 'email', label: 'Email', type: 'string', helpText: 'This or the phone.' },
        {
          key: 'phone',
          label: 'Phone',
          type: 'string',
          helpText: 'International, such as +62811234567.',
        },
        { key: 'name', label: 'Name', type: 'string' },
        {
          key: 'birthday',
          label: 'Birthday',
          type: 'string',
          helpText: '`1990-02-28`, or `--02-28` where the year is not known.',
        },
        {
          key: 'language',
          label: 'Language',
          type: 'string',
          helpText: 'A language tag such as `id` or `en`.',
        },
        {
          key: 'send_link',
          label: 'Send the Card by Email?',
          type: 'boolean',
          default: 'false',
        },
        { ...fields.runKey, required: false },
      ],
      perform: issueCard,
      sample: { ...CARD_SAMPLE, created: true, customer_created: true },
    },
  },
  add_stamps: {
    key: 'add_stamps',
    noun: 'Stamp',
    display: {
      label: 'Add Stamps',
      description: 'Adds stamps to a card, and gives the rewards that it reaches.',
    },
    operation: {
      inputFields: [
        ...fields.card,
        {
          key: 'count',
          label: 'Stamps',
          type: 'integer',
          helpText: '1–50. Leave it empty where you give the amount of a purchase.',
        },
        {
          key: 'amount',
          label: 'Amount',
          type: 'string',
          helpText: "A purchase's amount in your currency, such as `42.50`, instead of stamps.",
        },
        {
          key: 'external_ref',
          label: 'Your Reference',
          type: 'string',
          helpText: 'Such as a receipt number.',
        },
        {
          key: 'issue_if_missing',
          label: 'Issue a Card Where There Is None?',
          type: 'boolean',
          default: 'false',
          helpText: 'With an email or phone.',
        },
        fields.runKey,
      ],
      perform: addStamps,
      sample: {
        id: 'op_01jwsample0000000000000000',
        operation: { id: 'op_01jwsample0000000000000000', count: 1, before: 2, after: 3 },
        card: CARD_SAMPLE,
        rewards: [],
        lotteryTickets: [],
      },
    },
  },
  issue_voucher: {
    key: 'issue_voucher',
    noun: 'Voucher',
    display: {
      label: 'Issue Voucher',
      description: 'Issues a voucher to a card, or one to hand out.',
    },
    operation: {
      inputFields: [
        {
          key: 'voucher_template_id',
          label: 'Voucher Template',
          type: 'string',
          dynamic: 'voucher_templates.id.name',
        },
        {
          key: 'title',
          label: 'Title',
          type: 'string',
          helpText: 'Of a voucher without a template.',
        },
        ...fields.card,
        {
          key: 'redeem_code',
          label: 'Redeem Code',
          type: 'string',
          helpText: "A code of its own, instead of the template's.",
        },
        fields.runKey,
      ],
      perform: issueVoucher,
      sample: VOUCHER_SAMPLE,
    },
  },
  redeem_voucher: {
    key: 'redeem_voucher',
    noun: 'Voucher',
    display: { label: 'Redeem Voucher', description: 'Redeems a voucher; it works once.' },
    operation: {
      inputFields: [
        { key: 'voucher', label: 'Voucher', type: 'string', helpText: 'Its ID or scanned token.' },
        {
          key: 'redeem_code',
          label: 'Redeem Code',
          type: 'string',
          helpText: 'Instead; many vouchers may share one, so say whose it is.',
        },
        { key: 'card', label: 'Card', type: 'string', helpText: 'ID, number or token.' },
        { key: 'email', label: 'Customer Email', type: 'string' },
        { key: 'phone', label: 'Customer Phone', type: 'string' },
        { ...fields.runKey, required: false },
      ],
      perform: redeemVoucher,
      sample: {
        ...VOUCHER_SAMPLE,
        status: 'REDEEMED',
        redeemedAt: '2026-05-12T08:00:00Z',
        redeemedVia: 'API',
      },
    },
  },
}
