// Makes graphiql.js, graphiql.css, licences.txt and built.json, one folder up, from the lock:
//
//   npm ci && npm rebuild esbuild && node build.mjs

import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";

import { build } from "esbuild";

const SOURCES = readdirSync(".", { withFileTypes: true })
  .filter((entry) => entry.isFile())
  .map((entry) => entry.name)
  .sort();

const made = await build({
  entryPoints: ["main.jsx"],
  outfile: "../graphiql.js",
  bundle: true,
  minify: true,
  format: "iife",
  target: "es2022",
  jsx: "automatic",
  charset: "utf8",
  legalComments: "none", // they stand in licences.txt
  define: { "process.env.NODE_ENV": '"production"' },
  alias: { "framer-motion": "./tabs.jsx", entities: "./entities.js" },
  metafile: true,
  plugins: [{ name: "no fonts", setup: withoutFonts }],
});

writeFileSync("../licences.txt", licences(Object.keys(made.metafile.inputs)));
const files = (names, folder) =>
  Object.fromEntries(names.map((name) => [name, digest(readFileSync(folder + name))]));
const built = {
  made: files(["graphiql.css", "graphiql.js", "licences.txt"], "../"),
  of: files(SOURCES, ""),
};
writeFileSync("../built.json", JSON.stringify(built, null, 2) + "\n");

// GraphiQL's stylesheet carries 340 kB of fonts; the system's own do as well.
function withoutFonts(builder) {
  builder.onLoad({ filter: /\.css$/ }, ({ path }) => ({
    contents: readFileSync(path, "utf8").replace(/@font-face\s*\{[^}]*\}/g, ""),
    loader: "css",
  }));
}

function licences(inputs) {
  const folder = /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+/;
  const packages = new Set(inputs.map((path) => folder.exec(path)?.[0]).filter(Boolean));
  return [...packages].sort().map(licence).join("\n");
}

function licence(folder) {
  const { name, version, license } = JSON.parse(readFileSync(`${folder}/package.json`));
  const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
  const text = file ? readFileSync(`${folder}/${file}`, "utf8").replace(/\r/g, "").trim() : "";
  return `${"=".repeat(80)}\n${name} ${version} (${license})\n\n${text}\n`;
}

function digest(bytes) {
  return createHash("sha256").update(bytes).digest("hex");
}
