/** How a user connects: the address of their server, and an API key of a staff login. */
'use strict'

const { ask } = require('./stampwire')

/** Who the key is. Zapier calls this when a user connects, and to test a connection. */
const test = async (z, bundle) => {
  const { viewer } = await ask(
    z,
    bundle,
    '{ viewer { actor { name login role } business { id name } } }'
  )
  return {
    login: viewer.actor.login,
    name: viewer.actor.name,
    role: viewer.actor.role,
    business: viewer.business.name,
    business_id: viewer.business.id,
  }
}

module.exports = {
  type: 'custom',
  fields: [
    {
      key: 'server_url',
      label: 'Server URL',
      type: 'string',
      required: true,
      placeholder: 'https://stamps.example',
      helpText: 'The address of your Stampwire server.',
    },
    {
      key: 'api_key',
      label: 'API Key',
      type: 'password',
      required: true,
      helpText:
        'A key of a staff login; it begins with `7loc_sc_`. Make a login of its own for Zapier, ' +
        'as a manager, so that you can end its key without touching any other.',
    },
  ],
  test,
  connectionLabel: '{{login}} @ {{business}}',
}
