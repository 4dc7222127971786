// Judges an OpenRPC document on standard input: openrpc.mjs NODE_FOLDER.

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const require = createRequire(`${process.argv[2]}/here.js`);
const { openrpcDocument } = require("@open-rpc/meta-schema");
const { jsonSchema } = require("@json-schema-tools/meta-schema");
const Ajv = require("ajv").default;

// Both call a dialect of their own their meta-schema; it is draft 7 in all that counts here.
const plain = (schema) => ({ ...schema, $schema: "http://json-schema.org/draft-07/schema#" });
const ajv = new Ajv({ strict: false, validateFormats: false, allErrors: true });
for (const id of ["https://meta.json-schema.tools", "https://meta.json-schema.tools/"]) {
  ajv.addSchema({ ...plain(jsonSchema), $id: undefined }, id);
}
const validate = ajv.compile(plain(openrpcDocument));
const document = JSON.parse(readFileSync(0, "utf8"));

// A judge that lets everything pass would be no judge.
if (validate({ ...document, openrpc: "9.9.9" }) || validate({ ...document, methods: [{ name: 1 }] })) {
  throw new Error("the schema lets a wrong document pass");
}
if (!validate(document)) {
  throw new Error(JSON.stringify(validate.errors, null, 2));
}
console.log(`valid: ${document.methods.length} methods`);
