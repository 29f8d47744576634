// Evaluates n8n's expressions: `=text {{ code }}`, where the code sees `$json`.
const { values, json } = JSON.parse(require('node:fs').readFileSync(0, 'utf8'))

const run = (code) => new Function('$json', `return (${code})`)(json)
const evaluate = (value) => {
  if (typeof value !== 'string' || !value.startsWith('=')) return value
  const whole = value.match(/^=\s*\{\{((?:(?!\}\}).)*)\}\}\s*$/s)
  if (whole) return run(whole[1])
  return value.slice(1).replace(/\{\{(.*?)\}\}/gs, (_, code) => run(code))
}
console.log(JSON.stringify(values.map(evaluate)))
