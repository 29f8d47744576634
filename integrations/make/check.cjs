/**
 * Checks the app's files by the JSON Schemas of Make's own editor, run by hand:
 *
 *     cd integrations/make
 *     npm ci
 *     node check.cjs <folder of the extension>
 *
 * The folder is where Visual Studio Code keeps "Make Apps Editor", such as
 * ~/.vscode/extensions/integromat.apps-sdk-2.8.0. Its schemas may not be kept here.
 */
'use strict'

const fs = require('node:fs')
const path = require('node:path')
const { pathToFileURL } = require('node:url')

const APP = path.join(__dirname, 'app')

const main = async (extension) => {
  const manifest = extension && path.join(extension, 'package.json')
  if (!manifest || !fs.existsSync(manifest)) {
    console.error('Say where the extension "Make Apps Editor" is: node check.cjs <folder>')
    return 2
  }
  let library
  try {
    library = require('vscode-json-languageservice')
  } catch {
    console.error('Run `npm ci` in this folder first.')
    return 2
  }
  const service = library.getLanguageService({
    schemaRequestService: async (uri) => fs.readFileSync(new URL(uri), 'utf8'),
    workspaceContext: {
      resolveRelativePath: (relative, resource) => new URL(relative, resource).toString(),
    },
  })
  const { jsonValidation } = JSON.parse(fs.readFileSync(manifest, 'utf8')).contributes
  service.configure({
    validate: true,
    schemas: jsonValidation.map(({ fileMatch, url }) => ({
      fileMatch: [fileMatch].flat(),
      uri: pathToFileURL(path.join(extension, url)).toString(),
    })),
  })

  let faults = 0
  const files = fs.readdirSync(APP, { recursive: true }).filter((name) => name.endsWith('.json'))
  for (const name of files.sort()) {
    const file = path.join(APP, name)
    const uri = pathToFileURL(file).toString()
    const document = library.TextDocument.create(uri, 'json', 1, fs.readFileSync(file, 'utf8'))
    const parsed = service.parseJSONDocument(document)
    const schemas = await service.getMatchingSchemas(document, parsed)
    const found = await service.doValidation(document, parsed, { trailingCommas: 'error' })
    faults += found.length + (schemas.length === 0 ? 1 : 0)
    if (schemas.length === 0) console.log(`${name}: no schema is for it`)
    for (const { message, range } of found) console.log(`${name}:${range.start.line + 1}: ${message}`)
  }
  console.log(`${files.length} files, ${faults} faults`)
  return faults ? 1 : 0
}

main(process.argv[2]).then((code) => process.exit(code))
