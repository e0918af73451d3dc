/**
 * Exercise 12: `/msg NAME text`, a word in private.
 *
 * Until now the server alone had something to say to one person only. Now
 * people have. Two things go wrong easily: that the line can be mistaken for
 * something said to all, and that a second queue comes up, one that nobody
 * limits, while the room's own is watched so well.
 *
 * On the wire, to bob and to nobody else:
 *
 *     > /msg bob See you at eight?
 *     < alice (private): See you at eight?
 *
 * To whoever sent it, nothing, as with every message; or, if it was not sent:
 *
 *     < [SYSTEM] Nobody here is called bert. It was not sent.
 *     < [SYSTEM] A private message goes like this: /msg NAME text
 *
 * the second one if there is no name, or nothing to see behind it. A name is
 * found in whatever case, one's own, too. A private line comes at its place
 * among all that is said, and is not in the server's log. Only `/msg` with a
 * blank or nothing behind it is the command.
 *
 * Begin in server.ts, at `Room.hear`. `#tell` does most of it; `#members` finds
 * people by the `nameKey` of their name.
 *
 * A hint for the last test: the log is limited, as `isFull` makes whoever speaks
 * wait for slow readers. Asides are limited, as each client waits for its own.
 * But who waits for bob if alice fills bob's?
 *
 *     deno test --allow-net tests/exercises/12_private.ts
 *
 * The reference solution, when yours is stashed (`git stash`):
 *
 *     git apply tests/exercises/12_private.patch
 */

import { assertEquals, assertStringIncludes } from "@std/assert";
import { texts } from "../../protocol.ts";
import { testNet, TestServer } from "../helpers.ts";

testNet("private: the one it is for hears it, and nobody else", async () => {
  await using server = new TestServer();
  const [alice, bob, carol] = await server.joinAll("alice", "bob", "carol");
  await alice.says("/msg BOB See you  at eight?", "That is all");
  await carol.hears("alice: That is all");
  await bob.hears("alice (private): See you  at eight?", "alice: That is all");
});

testNet("private: it keeps its place among what is said to all", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("one", "/msg bob two", "/msg bob three", "four");
  await bob.hears("alice: one", "alice (private): two");
  await bob.hears("alice (private): three", "alice: four");
});

testNet("private: to nobody, or without a text, it is not sent", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("/msg bert hi", "/msg bob", "/msg bob  ", "/msg", "oh");
  await bob.hears("alice: oh");
  await bob.says("what?");
  const usage = "[SYSTEM] A private message goes like this: /msg NAME text";
  await alice.hears(
    "[SYSTEM] Nobody here is called bert. It was not sent.",
    ...[usage, usage, usage],
    "bob: what?",
  );
});

testNet("private: nothing of it is in the server's log", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("/msg bob a secret", "no secret");
  alice.hangsUp();
  await bob.hears("alice (private): a secret", "alice: no secret");
  await bob.hears(texts.left("alice"));
  assertStringIncludes(server.log, "no secret");
  assertEquals(server.log.includes("a secret"), false, server.log);
});

testNet("private: what only looks like one cannot be mistaken", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says(
    "/msg bob hi",
    "(private): hi",
    "/msgbob hi",
    " /msg bob hi",
  );
  await bob.hears("alice (private): hi", "alice: (private): hi");
  await bob.hears("alice: /msgbob hi", "alice:  /msg bob hi");
});

testNet("private: whoever fills a reader who does not read waits", async () => {
  await using server = new TestServer({ stallMs: 300 });
  const [alice, bob, carol] = await server.joinAll("alice", "bob", "carol");
  assertEquals(bob.name, "bob"); // and that is all we shall hear of bob
  // 16 MB: more than the kernel takes (4), and than the room may keep (64 KiB)
  const flood = alice.says(
    ...Array<string>(4_096).fill(`/msg bob ${"😀".repeat(990)}`),
    "done",
  ).catch(() => {}); // should she be hung up on, carol will tell
  const lines = [await carol.nextLine(), await carol.nextLine()];
  assertEquals(
    lines.map((line) => line.slice(0, 40)),
    [texts.left("bob"), "alice: done"],
    "on carol's screen: bob should be out before alice is through",
  );
  await flood;
});
