/**
 * Exercise 15: `/join ROOM`, as not all want to hear all.
 *
 * There is one log, and everybody has a way through it that leads around some
 * lines: so far around one's own. Rooms are no more than that, if you like.
 *
 * Everybody begins in the room `lobby`. On the wire, to all in all rooms,
 * whoever asked for it included:
 *
 *     > /join garden
 *     < [SYSTEM] alice is now in garden.
 *
 * A message goes to those who are in its author's room when it is said, and looks
 * as ever. Announcements go to all: who is here, and where, is no secret. Rooms
 * need not be made before, and are gone when nobody is in them.
 *
 * A room is called by the rules for names, and goes by its `nameKey`: `Garden` is
 * `garden`, and is shown so. What is no name is no room; then whoever asked is
 * told, and nobody else:
 *
 *     < [SYSTEM] REASON You are still in lobby.
 *
 * with the REASON of `checkName`. Only `/join` with a blank or nothing behind it
 * is the command; what follows the blank is the room.
 *
 * Begin in server.ts, at `#say`: it leads its author around the line, with a
 * `Detour`. Who else should not hear it?
 *
 * Two hints. What somebody hears is decided when a line is said, not when it is
 * written, perhaps much later; so no line can be in the wrong room. And count
 * what your way costs for each line, and for each room; there are two good ways.
 *
 *     deno test --allow-net tests/exercises/15_rooms.ts
 *
 * The reference solution, when yours is stashed (`git stash`):
 *
 *     git apply tests/exercises/15_rooms.patch
 */

import { texts } from "../../protocol.ts";
import { type Person, testNet, TestServer } from "../helpers.ts";

/** Somebody goes into a room, and all hear of it. */
async function moves(
  person: Person,
  room: string,
  others: Person[],
): Promise<void> {
  await person.says(`/join ${room}`);
  for (const listener of [...others, person]) {
    await listener.hears(`[SYSTEM] ${person.name} is now in ${room}.`);
  }
}

testNet("rooms: all hear who goes where, whoever goes included", async () => {
  await using server = new TestServer();
  const [alice, bob, carol] = await server.joinAll("alice", "bob", "carol");
  await moves(bob, "garden", [alice, carol]);
  await moves(alice, "cellar", [bob, carol]);
  await moves(bob, "lobby", [alice, carol]);
});

testNet("rooms: what is said in one is heard there only", async () => {
  await using server = new TestServer();
  const all = await server.joinAll("alice", "bob", "carol");
  const [alice, bob, carol] = all;
  await moves(alice, "garden", [bob, carol]);
  await moves(bob, "garden", [alice, carol]);
  await bob.says("Just us?");
  await alice.hears("bob: Just us?");
  await carol.says("Where are you all?");
  const dan = await server.join("dan"); // into the lobby
  for (const person of all) await person.hears(texts.joined("dan"));
  await dan.says("I am here");
  await carol.hears("dan: I am here");
});

testNet(
  "rooms: a line goes to where its author is when it is said",
  async () => {
    await using server = new TestServer();
    const [alice, bob, carol] = await server.joinAll("alice", "bob", "carol");
    await moves(bob, "garden", [alice, carol]);
    await alice.says("one", "/join garden", "two", "/join lobby", "three");
    const there = "[SYSTEM] alice is now in garden.";
    const back = "[SYSTEM] alice is now in lobby.";
    await carol.hears("alice: one", there, back, "alice: three");
    await server.join("dan");
    await bob.hears(there, "alice: two", back, texts.joined("dan"));
    await alice.hears(there, back, texts.joined("dan"));
  },
);

testNet("rooms: Garden is garden", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await moves(alice, "garden", [bob]);
  await bob.says("/join Garden", "Is this yours, too?");
  await alice.hears("[SYSTEM] bob is now in garden.");
  await alice.hears("bob: Is this yours, too?");
});

testNet("rooms: what is no name is no room, and one stays", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.says("/joined", "/join two words", "/join garden", "/join");
  await alice.says("/join lobby");
  const there = "[SYSTEM] alice is now in garden.";
  const back = "[SYSTEM] alice is now in lobby.";
  await bob.hears("alice: /joined", there, back);
  const letters =
    "A name has letters, digits, dots, dashes and underscores only, " +
    "and begins with a letter or digit.";
  await alice.hears(
    `[SYSTEM] ${letters} You are still in lobby.`,
    there,
    `[SYSTEM] ${letters} You are still in garden.`,
    back,
  );
});

testNet(
  "rooms: two floods side by side do not mix, and miss nothing",
  async () => {
    await using server = new TestServer();
    const all = await server.joinAll("ann", "ben", "cleo", "dan");
    const [ann, ben, cleo, dan] = all;
    await moves(cleo, "garden", [ann, ben, dan]);
    await moves(dan, "garden", [ann, ben, cleo]);
    const lines = Array.from({ length: 500 }, (_, n) => `line ${n}`);
    await Promise.all([ann, cleo].map((speaker) => speaker.says(...lines)));
    for (const line of lines) await ben.hears(`ann: ${line}`);
    for (const line of lines) await dan.hears(`cleo: ${line}`);
    await server.join("eve");
    for (const person of all) await person.hears(texts.joined("eve"));
  },
);
