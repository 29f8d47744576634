// graphql-eslint on the schema: all it recommends, and its rules for Relay.
import graphqlPlugin from '@graphql-eslint/eslint-plugin';
import { ESLint } from 'eslint';
import { say } from './judging.mjs';

const [schema, tuning] = [process.argv[2], JSON.parse(process.argv[3])];
const lint = new ESLint({
  cwd: process.cwd(),
  overrideConfigFile: true,
  overrideConfig: [{
    files: ['**/*.graphql'],
    plugins: { '@graphql-eslint': graphqlPlugin },
    languageOptions: {
      parser: graphqlPlugin.parser,
      parserOptions: { graphQLConfig: { schema } },
    },
    rules: {
      ...graphqlPlugin.configs['flat/schema-recommended'].rules,
      ...graphqlPlugin.configs['flat/schema-relay'].rules,
      ...tuning,
    },
  }],
});
const [{ messages }] = await lint.lintFiles([schema]);
say(messages.map(({ ruleId, line, message }) => ({
  name: ruleId, passed: false, reason: `line ${line}: ${message}`,
})));
