/** What a Zap can look for: a customer, a card, a voucher; and a card that is issued if need be. */
'use strict'

const creates = require('./creates')
const fields = require('./fields')
const { ask } = require('./stampwire')

const customerSample = {
  id: 'c_01jwsample0000000000000000',
  name: 'Ana',
  email: 'ana@mail.example',
  phone: null,
  birthday: null,
  language: 'en',
  createdAt: '2026-05-11T12:34:56Z',
  lastActivityAt: null,
}

const findCustomer = async (z, bundle) => {
  const { customers } = await ask(
    z,
    bundle,
    `query($search: String!) { customers(filter: { search: $search }, first: 10) {
      nodes { ${fields.CUSTOMER} } } }`,
    { search: bundle.inputData.search }
  )
  return customers.nodes
}

const findCard = async (z, bundle) => {
  const { card } = await ask(
    z,
    bundle,
    `query($ref: CardRef!) { card(ref: $ref) { ${fields.CARD} } }`,
    { ref: fields.neededCardRef(z, bundle.inputData) }
  )
  return card ? [card] : []
}

const findVoucher = async (z, bundle) => {
  const { redeem_code: redeemCode, status } = bundle.inputData
  const { vouchers } = await ask(
    z,
    bundle,
    `query($code: String!, $status: VoucherStatus) {
      vouchers(filter: { redeemCode: $code, status: $status }, first: 10) {
        nodes { ${fields.VOUCHER} } } }`,
    { code: redeemCode, status: status || null }
  )
  return vouchers.nodes
}

const searches = {
  find_customer: {
    key: 'find_customer',
    noun: 'Customer',
    display: {
      label: 'Find Customer',
      description: 'Finds a customer by name, email, phone or card number.',
    },
    operation: {
      inputFields: [
        {
          key: 'search',
          label: 'Search',
          type: 'string',
          required: true,
          helpText: 'A part of the name, email or phone, or a whole card number.',
        },
      ],
      perform: findCustomer,
      sample: customerSample,
    },
  },
  find_card: {
    key: 'find_card',
    noun: 'Card',
    display: { label: 'Find Card', description: 'Finds a card by its number or its holder.' },
    operation: {
      inputFields: fields.card,
      perform: findCard,
      sample: creates.issue_card.operation.sample,
    },
  },
  find_voucher: {
    key: 'find_voucher',
    noun: 'Voucher',
    display: { label: 'Find Voucher', description: 'Finds vouchers by their redeem code.' },
    operation: {
      inputFields: [
        { key: 'redeem_code', label: 'Redeem Code', type: 'string', required: true },
        {
          key: 'status',
          label: 'Status',
          type: 'string',
          choices: { ACTIVE: 'Active', REDEEMED: 'Redeemed', EXPIRED: 'Expired' },
        },
      ],
      perform: findVoucher,
      sample: creates.issue_voucher.operation.sample,
    },
  },
}

const searchOrCreates = {
  find_card: {
    key: 'find_card',
    display: {
      label: 'Find or Issue Card',
      description: 'Finds the card of a customer, or issues one.',
    },
    search: 'find_card',
    create: 'issue_card',
  },
}

module.exports = { searches, searchOrCreates }
