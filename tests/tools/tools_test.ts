/**
 * Tests of the tools for the course: how they read a page and a diff. They need no
 * permission. Whether the course itself is right is checked by `deno task prove`.
 */

import { assertEquals, assertThrows } from "@std/assert";
import { namesIn } from "./prove.ts";
import { applyDiff, byNumber, formatSize, parsePage, sizeOf } from "./steps.ts";
import { onlyTitles } from "./trial.ts";

const PAGE = `# Step 9.2: one log for all

**What goes wrong.** Each receiver has a queue.

- This is no test.

**Change.** One log.

Hints:

1. Look at \`#append\`.
2. Keep an offset:

       offset++;

These tests turn green:

- log: a line is kept once
- log: (really) "quoted"
`;

const DIFF = `--- a/server.ts
+++ b/server.ts
@@ -2,3 +2,5 @@
 two
-three
+// a comment
+
+3
 four
--- /dev/null
+++ b/log.ts
@@ -0,0 +1,2 @@
+/** A comment. */
+export const log = [];
`;

Deno.test("tools: a page is taken apart into its parts", () => {
  const page = parsePage(PAGE);
  assertEquals(page.title, "Step 9.2: one log for all");
  assertEquals(page.body.split("\n")[0], PAGE.split("\n")[2]);
  assertEquals(page.body.endsWith("**Change.** One log."), true);
  assertEquals(page.hints, [
    "Look at `#append`.",
    "Keep an offset:\n\n       offset++;",
  ]);
  assertEquals(page.tests, [
    "log: a line is kept once",
    'log: (really) "quoted"',
  ]);
  assertEquals(page.noTests, undefined);
});

Deno.test("tools: a step that only prepares the next one says so", () => {
  const sentence = "No test changes: this step makes room for the next one.";
  const page = parsePage(`# Step 9.1: make room\n\nText.\n\n${sentence}\n`);
  assertEquals(page.noTests, sentence);
  assertEquals(page.body, "Text.");
  assertEquals(page.tests, []);
});

Deno.test("tools: a diff changes lines that have moved, and makes files", () => {
  const program = { "server.ts": "zero\none\ntwo\nthree\nfour\n" };
  assertEquals(applyDiff(program, DIFF, "09.2_log"), {
    "server.ts": "zero\none\ntwo\n// a comment\n\n3\nfour\n",
    "log.ts": "/** A comment. */\nexport const log = [];\n",
  });
});

Deno.test("tools: a diff does not apply if a line around it differs", () => {
  const program = { "server.ts": "one\ntwo\nthree\nFOUR\n" };
  assertThrows(
    () => applyDiff(program, DIFF, "09.2_log"),
    Error,
    "09.2_log.diff does not apply to server.ts",
  );
});

Deno.test("tools: comments and empty lines are no changed lines", () => {
  assertEquals(sizeOf(DIFF), { added: 2, removed: 1 });
  assertEquals(formatSize(sizeOf(DIFF)), "3 changed lines (+2 -1)");
});

Deno.test("tools: step 10 of a lesson follows step 9", () => {
  const stems = ["10.1_a", "09.10_b", "09.9_c", "09.2_d"];
  assertEquals(stems.sort(byNumber), ["09.2_d", "09.9_c", "09.10_b", "10.1_a"]);
});

Deno.test("tools: private names and calls in backticks are found", () => {
  const text =
    "`#log`, `this.#append()`, `conn.close()`, `name`, `# Step`, #no";
  assertEquals(namesIn(text), ["#log", "#append", "close()"]);
});

Deno.test("tools: a filter for tests takes their titles literally", () => {
  assertEquals(onlyTitles(["a (b)", "c/d"]), "--filter=/^(a \\(b\\)|c\\/d)$/");
});
