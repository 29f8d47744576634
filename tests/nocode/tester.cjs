// Runs the Zapier app by Zapier's own app tester: a line of JSON asks, a line answers.
const readline = require('node:readline')
const { createAppTester } = require('zapier-platform-core')
const App = require('./index')

const run = createAppTester(App)
const at = (path) => path.split('.').reduce((found, name) => found[name], App)

// Whatever the platform logs is not an answer.
const answer = process.stdout.write.bind(process.stdout)
process.stdout.write = process.stderr.write.bind(process.stderr)

readline.createInterface({ input: process.stdin }).on('line', async (line) => {
  const { method, bundle } = JSON.parse(line)
  let said
  try {
    said = { result: method ? await run(at(method), bundle) : Object.keys(App.triggers) }
  } catch (error) {
    said = { error: error.name, message: error.message }
  }
  answer(`${JSON.stringify(said)}\n`)
})
