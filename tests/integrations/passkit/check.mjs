// What passkit-generator's schemas say of each pass.json that is given as a list: an empty text is good.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const place = join(process.argv[2], "node_modules/passkit-generator/lib/esm/schemas/index.js");
const { PassProps } = await import(pathToFileURL(place));
const passes = JSON.parse(readFileSync(0, "utf8"));
const said = passes.map((pass) => PassProps.validate(pass, { abortEarly: false }).error?.message ?? "");
process.stdout.write(JSON.stringify(said));
