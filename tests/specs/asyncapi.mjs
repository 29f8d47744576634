// Reads AsyncAPI documents with AsyncAPI's own parser: what it says of each, and of its examples.
// The parser compares no example with its schema, so Ajv does.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";
import Ajv from "ajv";
import addFormats from "ajv-formats";

const parser = new Parser();
const ajv = new Ajv({ strict: false, allErrors: true });
addFormats(ajv);

async function read(file) {
  const { document, diagnostics } = await parser.parse(readFileSync(file, "utf8"));
  const messages = {};
  const wrong = [];
  const check = (name, schema, value) => {
    if (!ajv.validate(schema.json(), value)) wrong.push(`${name}: ${ajv.errorsText()}`);
  };
  for (const channel of document?.channels().all() ?? []) {
    for (const message of channel.messages().all()) {
      const name = `${channel.id()} ${message.id()}`;
      messages[name] = message.examples().all().length;
      for (const example of message.examples().all()) {
        check(`${name} payload`, message.payload(), example.payload());
        if (message.headers()) check(`${name} headers`, message.headers(), example.headers());
      }
    }
  }
  return {
    diagnostics: diagnostics.map((one) => `${one.path.join(".")}: ${one.message}`),
    operations: document?.operations().all().map((one) => [one.id(), one.action()]) ?? [],
    messages,
    wrong,
  };
}

const said = [];
for (const file of process.argv.slice(2)) said.push(await read(file));
console.log(JSON.stringify(said));
