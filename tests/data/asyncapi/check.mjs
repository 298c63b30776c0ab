// Reads an AsyncAPI document on standard input; prints what the official parser says of it, as JSON.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

// The parser is not beside this file, but where scripts/asyncapi has put it.
const { Parser } = createRequire(`${process.argv[2]}/`)("@asyncapi/parser");
const { document, diagnostics } = await new Parser().parse(readFileSync(0, "utf-8"));
console.log(JSON.stringify({
  version: document?.version() ?? null,
  operations: document?.operations().all().map((each) => each.id()) ?? [],
  channels: document?.channels().all().map((each) => each.address()) ?? [],
  schemas: document?.components().schemas().all().map((each) => each.id()) ?? [],
  diagnostics: diagnostics.map(({ severity, code, message, path }) => ({ severity, code, message, path })),
}));
