// Reads the files of a collection with Bruno's own parser.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import bruno from "@usebruno/lang";

const folder = process.argv[2];
const text = (...path) => readFileSync(join(folder, ...path), "utf8");
const requests = readdirSync(folder)
  .filter((file) => file.endsWith(".bru") && file !== "collection.bru")
  .map((file) => bruno.bruToJsonV2(text(file)));
console.log(
  JSON.stringify({
    collection: bruno.collectionBruToJson(text("collection.bru")),
    environment: bruno.bruToEnvJsonV2(text("environments", "local.bru")),
    requests: requests.sort((one, other) => one.meta.seq - other.meta.seq),
  }),
);
