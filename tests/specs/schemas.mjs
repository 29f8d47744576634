// Compiles every JSON Schema of each folder with Ajv in its strictest mode, and tries the examples:
// each must fit its own schema and `event.json`, and no other event's.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import Ajv2020 from "ajv/dist/2020.js";
import addFormats from "ajv-formats";

function read(folder) {
  const ajv = new Ajv2020({ strict: true, allErrors: true });
  addFormats(ajv);
  const files = readdirSync(folder);
  const schemas = Object.fromEntries(
    files.map((file) => [file, JSON.parse(readFileSync(join(folder, file), "utf8"))]),
  );
  for (const [file, schema] of Object.entries(schemas)) ajv.addSchema(schema, file);

  const wrong = [];
  let examples = 0;
  for (const [file, { examples: own = [] }] of Object.entries(schemas)) {
    for (const example of own) {
      examples += 1;
      const fits = files.filter((other) => ajv.getSchema(other)(example));
      if (fits.sort().join() !== [file, "event.json"].sort().join()) {
        wrong.push(`${file} fits ${fits}: ${ajv.errorsText(ajv.getSchema(file).errors)}`);
      }
      for (const key of Object.keys(example)) {
        const { [key]: _, ...without } = example;
        if (ajv.getSchema(file)(without)) wrong.push(`${file} does not miss ${key}`);
      }
    }
  }
  return { files: files.length, examples, wrong };
}

console.log(JSON.stringify(process.argv.slice(2).map(read)));
