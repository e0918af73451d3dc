/**
 * Exercise 20: `/join ROOM`, as not all want to hear all.
 *
 * There is one log, and everybody reads it in one order; but not every entry is
 * for everybody: one's own lines are not. Rooms need no more than that, if you
 * like; the class `Room` may stay one.
 *
 * Everybody begins in the room `lobby`. To all in all rooms, whoever asked for
 * it included:
 *
 *     > /join garden
 *     < [SYSTEM] alice is now in garden.
 *
 * A message goes to those who are in its author's room when it is said, and
 * looks as ever. Announcements go to all: who is here, and where, is no secret.
 * Rooms need not be made before, and are gone when nobody is in them.
 *
 * A room is called by the rules for names, and goes by its `nameKey`: `Garden`
 * is `garden`, and is shown so. What is no name is no room; then whoever asked
 * is told, and nobody else:
 *
 *     < [SYSTEM] REASON You are still in lobby.
 *
 * with the REASON of `register`. Only `/join` with a blank or nothing behind it
 * is the command; alone, it leads back to the lobby.
 *
 * Begin in server.ts at `#nextChunk`, where it is decided who hears an entry.
 *
 * Two hints. What somebody hears is decided when a line is said, not when it is
 * written, perhaps much later. And count what your way costs for each message,
 * and for each room; there is more than one good way.
 *
 *     deno task learn 20
 *     deno test --allow-net tests/exercises/20_rooms.ts
 */

import { assertMatch } from "@std/assert";
import { assertLines, messages, type Person, testNet } from "../helpers.ts";
import { TestServer, texts } from "../helpers.ts";

const moved = (name: string, room: string) =>
  `[SYSTEM] ${name} is now in ${room}.`;

/** Somebody goes into a room, and all hear of it. */
async function moves(person: Person, room: string, ...others: Person[]) {
  await person.says(`/join ${room}`);
  for (const listener of [...others, person]) {
    await listener.hears(moved(person.name, room));
  }
}

testNet("rooms: all hear who goes where, whoever goes included", async () => {
  await using server = new TestServer();
  const [alice, bob, carol] = await server.joinAll("alice", "bob", "carol");
  await moves(bob, "garden", alice, carol);
  await moves(alice, "cellar", bob, carol);
  await moves(bob, "lobby", alice, carol);
});

testNet("rooms: what is said in one is heard there only", async () => {
  await using server = new TestServer();
  const all = await server.joinAll("alice", "bob", "carol");
  const [alice, bob, carol] = all;
  await moves(alice, "garden", bob, carol);
  await moves(bob, "garden", alice, carol);
  await bob.says("Just us?");
  await alice.hears("bob: Just us?");
  await carol.says("Where are you all?");
  const dan = await server.join("dan"); // into the lobby
  for (const person of all) await person.hears(texts.joined("dan"));
  await dan.says("I am here");
  await carol.hears("dan: I am here");
});

testNet("rooms: a line goes to where its author is then", async () => {
  await using server = new TestServer();
  const [alice, bob, carol] = await server.joinAll("alice", "bob", "carol");
  await moves(bob, "garden", alice, carol);
  await alice.says("one", "/join garden", "two", "/join", "three");
  const [there, back] = [moved("alice", "garden"), moved("alice", "lobby")];
  await carol.hears("alice: one", there, back, "alice: three");
  await server.join("dan");
  await bob.hears(there, "alice: two", back, texts.joined("dan"));
  await alice.hears(there, back, texts.joined("dan"));
});

testNet("rooms: Garden is garden", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await moves(alice, "garden", bob);
  await bob.says("/join Garden", "Is this yours, too?");
  await alice.hears(moved("bob", "garden"), "bob: Is this yours, too?");
});

testNet("rooms: what is no name is no room, and one stays", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("/joined", "/join two words", "still here");
  await bob.hears("alice: /joined", "alice: still here");
  const refusal = /^\[SYSTEM\] .*\bname\b.*\. You are still in lobby\.$/;
  assertMatch(await alice.nextLine(), refusal, "on alice's screen");
});

testNet("rooms: amid two floods, a mover hears each in its time", async () => {
  await using server = new TestServer();
  const all = await server.joinAll("ann", "ben", "cleo", "dan", "eve");
  const [ann, ben, cleo, dan, eve] = all;
  await moves(cleo, "garden", ann, ben, dan, eve);
  await moves(dan, "garden", ann, ben, cleo, eve);
  const flood = messages(3_000, 100);
  const floods = [ann, cleo].map((speaker) => speaker.says(...flood));
  await eve.says("/join garden");
  const here = moved("eve", "garden");
  const [before] = await Promise.all(
    [ben, dan].map((it) => it.hearsUntil(here)),
  );
  await Promise.all(floods);
  await Promise.all([ann, cleo].map((speaker) => speaker.says("the end")));
  const after = await dan.hearsUntil("cleo: the end");
  const heard = await eve.hearsUntil("cleo: the end");
  assertLines(heard, [...before!, ...after], "eve");
});
