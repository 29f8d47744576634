/** What users choose from while they build a Zap: card templates and voucher templates. */
'use strict'

const { ask } = require('./stampwire')

/** All that is published or active, by pages. */
const listOf = (field, show) => async (z, bundle) => {
  const after = bundle.meta.page ? await z.cursor.get() : null
  const data = await ask(
    z,
    bundle,
    `query($after: String) { ${field}(first: 100, after: $after) {
      nodes { id status ${show} } pageInfo { hasNextPage endCursor } } }`,
    { after }
  )
  const { nodes, pageInfo } = data[field]
  if (pageInfo.hasNextPage) await z.cursor.set(pageInfo.endCursor)
  return nodes
    .filter((node) => node.status !== 'ARCHIVED' && node.status !== 'DRAFT')
    .map((node) => ({ id: node.id, name: node[show] }))
}

const hidden = (key, noun, field, show) => ({
  key,
  noun,
  display: {
    label: `List of ${noun}s`,
    description: `Triggers when a list of ${noun.toLowerCase()}s is needed to choose from.`,
    hidden: true,
  },
  operation: { type: 'polling', canPaginate: true, perform: listOf(field, show) },
})

module.exports = {
  card_templates: hidden('card_templates', 'Card Template', 'cardTemplates', 'name'),
  voucher_templates: hidden('voucher_templates', 'Voucher Template', 'voucherTemplates', 'title'),
}
