/** The app as Zapier sees it: how to connect, what starts a Zap, and what a Zap can do. */
'use strict'

const { version } = require('./package.json')
const { version: platformVersion } = require('zapier-platform-core')
const authentication = require('./authentication')
const creates = require('./creates')
const searches = require('./searches')
const lists = require('./lists')
const triggers = require('./triggers')

module.exports = {
  version,
  platformVersion,
  authentication,
  triggers: { ...triggers, ...lists },
  creates,
  searches: searches.searches,
  searchOrCreates: searches.searchOrCreates,
  flags: { cleanInputData: false },
}
