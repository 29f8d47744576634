// graphql-inspector: what changed between two schemas.
import { readFileSync } from 'node:fs';
import { diff } from '@graphql-inspector/core';
import { buildSchema } from 'graphql';
import { say } from './judging.mjs';

const [released, present] = process.argv.slice(2).map((file) => buildSchema(readFileSync(file, 'utf8')));
const changes = await diff(released, present);
say(changes.map(({ criticality, message, path }) => ({
  name: path, passed: criticality.level !== 'BREAKING', reason: `${criticality.level}: ${message}`,
})));
