/**
 * Exercise 24: `/join ROOM`, since not everybody wants to receive everything.
 *
 * There is one log, and everybody reads it in one order. But not every entry is for
 * every member: nobody receives their own messages. Rooms need no more than that, if
 * you like, and the class `Room` may remain the only one.
 *
 * Everybody begins in the room `lobby`. All members in all rooms receive who moves,
 * also the one who moves:
 *
 *     > /join garden
 *     < [SYSTEM] alice is now in garden.
 *
 * Only members who are in the sender's room when a message is sent receive it. It
 * looks as ever. Announcements are for all rooms: who is here, and where, is no
 * secret. Nobody has to create a room, and a room ends when nobody is in it.
 *
 * The rules for the names of rooms are those of `checkName`. A room is known by its
 * `nameKey`, and shown like that: `Garden` is `garden`. If the name is refused, only
 * the asker receives why, and stays where it is:
 *
 *     > /join the garden
 *     < [SYSTEM] REASON You are still in lobby.
 *
 * with the REASON of `checkName`. Only `/join` with a space or nothing after it is the
 * command. `/join` alone leads back to the lobby.
 *
 * First rung: announce and refuse. All members still receive all messages. Then the
 * first three tests are green, and the last one, if the lines count against the mover.
 *
 * Begin in server.ts at `#say`, where a line becomes a message. After the first rung,
 * go to `isFor` and `#makeBatch`: there it is decided who receives an entry.
 *
 * Hints:
 *
 *   - Who receives a message is decided when it is sent. But a slow receiver may read
 *     it much later, when it has moved to another room. So where was it, at that
 *     offset? The log holds who has moved, too.
 *   - Nobody receives their own entries, and `/join` in an endless loop must make its
 *     sender wait, like messages do. So against whom does the line count that all receive?
 *   - Members in different rooms cannot share a `Batch`. What does your way cost for
 *     each message, and for each room? There is more than one good way.
 *
 *     deno task learn 24
 *     deno test tests/exercises/24_rooms.ts
 */

import { assertMatch, fail } from "@std/assert";
import {
  announcements,
  assertLine,
  assertLines,
  messages,
  type Person,
  TestServer,
} from "../helpers.ts";

function moved(name: string, room: string): string {
  return `[SYSTEM] ${name} is now in ${room}.`;
}

/** A person moves to a room, and everybody receives that. */
async function move(person: Person, room: string, ...others: Person[]) {
  await person.sends(`/join ${room}`);
  for (const receiver of [...others, person]) {
    await receiver.receives(moved(person.name, room));
  }
}

Deno.test("rooms: all members in all rooms receive who moves where", async () => {
  await using server = new TestServer();
  const [alice, bob, carol] = await server.joinAll("alice", "bob", "carol");
  await move(bob, "garden", alice, carol);
  await move(alice, "cellar", bob, carol);
  await move(bob, "lobby", alice, carol);
});

Deno.test("rooms: a wrong name is no room, and the asker stays in its room", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await alice.sends("/joined", "/join two words", "still here");
  await bob.receives("alice: /joined", "alice: still here");
  const refusal = /^\[SYSTEM\] .*\bname\b.*\. You are still in lobby\.$/;
  assertMatch(await alice.nextLine(), refusal, "The answer to alice");
});

Deno.test("rooms: Garden is the same room as garden", async () => {
  await using server = new TestServer();
  const [alice, bob] = await server.joinAll("alice", "bob");
  await move(alice, "garden", bob);
  await bob.sends("/join Garden", "Is this yours, too?");
  await alice.receives(moved("bob", "garden"), "bob: Is this yours, too?");
});

Deno.test("rooms: only members in the room receive a message that is sent there", async () => {
  await using server = new TestServer();
  const all = await server.joinAll("alice", "bob", "carol");
  const [alice, bob, carol] = all;
  await move(alice, "garden", bob, carol);
  await move(bob, "garden", alice, carol);
  await bob.sends("Just us?");
  await alice.receives("bob: Just us?");
  await carol.sends("Where are you all?");
  const dan = await server.join("dan"); // He is in the lobby.
  for (const person of all) await person.receives(announcements.joined("dan"));
  await dan.sends("I am here");
  await carol.receives("dan: I am here");
});

Deno.test("rooms: a message goes to the room where its sender is then", async () => {
  await using server = new TestServer();
  const [alice, bob, carol] = await server.joinAll("alice", "bob", "carol");
  await move(bob, "garden", alice, carol);
  await alice.sends("one", "/join garden", "two", "/join", "three");
  const there = moved("alice", "garden");
  const back = moved("alice", "lobby");
  await carol.receives("alice: one", there, back, "alice: three");
  await server.join("dan");
  await bob.receives(there, "alice: two", back, announcements.joined("dan"));
  await alice.receives(there, back, announcements.joined("dan"));
});

Deno.test("rooms: between two floods, a member that moves receives each in its time", async () => {
  await using server = new TestServer();
  const all = await server.joinAll("ann", "ben", "cleo", "dan", "eve");
  const [ann, ben, cleo, dan, eve] = all;
  await move(cleo, "garden", ann, ben, dan, eve);
  await move(dan, "garden", ann, ben, cleo, eve);
  const flood = messages(3_000, 100);
  const flooding = [ann, cleo].map((sender) => sender.sends(...flood));
  await eve.sends("/join garden");
  const here = moved("eve", "garden");
  const before = await ben.receivesUntil(here);
  await dan.receivesUntil(here);
  await Promise.all(flooding);
  for (const sender of [ann, cleo]) await sender.sends("the end");
  const after = await dan.receivesUntil("cleo: the end");
  const wrong = after.find((line) => line.startsWith("ann:"));
  if (wrong) fail(`dan is in the garden, but receives ${wrong}`);
  const received = await eve.receivesUntil("cleo: the end");
  assertLines(received, [...before, ...after], "eve");
});

Deno.test("rooms: a member that moves 5,000 times waits for a slow receiver", async () => {
  await using server = new TestServer({ inMemory: true, stallTimeoutMs: 300 });
  const [alice, carol] = await server.joinAll("alice", "carol");
  await server.joinSleeper("bob", alice, carol);
  const twice = ["/join garden", "/join lobby"];
  const moves = Array.from({ length: 2_500 }, () => twice).flat();
  await alice.sends(...moves, "done");
  await carol.receives(moved("alice", "garden"));
  const bobLeft = announcements.left("bob");
  const lines = await carol.receivesUntil(bobLeft, "alice: done");
  assertLine(lines.at(-1), bobLeft, "carol");
});
