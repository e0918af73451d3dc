/**
 * The last file that `deno test` runs. It says where one stands, and what one can do
 * next. Its name puts it behind the lessons.
 */

import { canRunPrograms, hasSockets } from "./helpers.ts";

const MORE = "deno task learn      build this program yourself, step by step";

function whereNext(): string {
  if (canRunPrograms) {
    return `All lessons ran, with real sockets and programs.\n  ${MORE}`;
  }
  const network = hasSockets
    ? "All lessons on the server and the protocol ran, over real sockets."
    : "All lessons on the server and the protocol ran, in memory, with no permission.";
  return `${network}
  deno task test       run everything, also the tests that start programs
  ${MORE}`;
}

Deno.test("where next", () => {});

globalThis.addEventListener("unload", () => console.log(`\n${whereNext()}`));
