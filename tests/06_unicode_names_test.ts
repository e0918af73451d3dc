/**
 * Lesson 6: Unicode in names.
 *
 * A name says who somebody is. So people must be able to see it, and what is the same
 * name for people must be the same name for the program. With ASCII that is simple.
 * Unicode has the letters of all scripts, several ways to write one of them, some
 * characters that nobody can see, and rules for case with surprises: the German ß
 * has two forms in upper case, and one of them has two letters.
 *
 * Every program that compares names which people choose has to solve this: accounts,
 * file systems, domain names. The tools are the same everywhere: the properties of
 * characters, normalization (NFC, NFKC) and case folding. RFC 8265 has rules for the
 * names of users, and IDNA for those of domains.
 */

import {
  announcements,
  assertLine,
  type Person,
  TestServer,
} from "./helpers.ts";

/** Fails unless this name is made of what the newcomer has typed. */
async function becomes(
  newcomer: Person,
  typed: string,
  name: string,
): Promise<void> {
  await newcomer.sends(typed);
  const line = await newcomer.nextLine();
  const answer = /^\[SYSTEM\] Welcome, .+!(?= Active users)/.exec(line)?.[0];
  const who = `A client that asks for the name ${describe(typed)}`;
  assertLine(answer ?? line, `[SYSTEM] Welcome, ${name}!`, who);
}

/** Fails unless exactly this is the answer to what the newcomer has typed. */
async function isAnswered(
  newcomer: Person,
  typed: string,
  refusal: string,
): Promise<void> {
  await newcomer.sends(typed);
  const line = await newcomer.nextLine();
  const expected = `[SYSTEM] ${refusal} Enter another name:`;
  assertLine(
    line,
    expected,
    `A client that asks for the name ${describe(typed)}`,
  );
}

/** A name in quotes, or its code points if it is not plain ASCII. */
function describe(typed: string): string {
  if (/^[ -~]*$/.test(typed)) return `"${typed}"`;
  const chars = [...typed].slice(0, 24);
  const codes = chars.map((char) => char.codePointAt(0)!.toString(16));
  return codes.map((code) => `U+${code.toUpperCase()}`).join(" ");
}

const RULE =
  "A name has letters, digits and . - _ only, and a letter or digit first.";
const TOO_LONG = "A name has at most 20 characters.";

// ----------------------------------------------------------------- any script

Deno.test("unicode names: a name may be in any script", async () => {
  await using server = new TestServer();
  const names = ["Zoë", "李小龍", "Олег", "हिन्दी", "משה", "สมชาย", "٣٤"];
  for (const name of names) {
    await becomes(await server.connect(), name, name);
  }
});

Deno.test("unicode names: 20 characters of any script are a name, and 21 are too long", async () => {
  await using server = new TestServer();
  const rare = "\u{20000}"; // a Chinese character that takes two UTF-16 units
  for (const char of ["я", "字", rare]) {
    const newcomer = await server.connect();
    await isAnswered(newcomer, char.repeat(21), TOO_LONG);
    await becomes(newcomer, char.repeat(20), char.repeat(20));
  }
});

Deno.test("unicode names: a name with anything but letters, digits, combining marks and . - _ is refused", async () => {
  await using server = new TestServer();
  const newcomer = await server.connect();
  const signs = ["two words", "a!", "a:", "a/b", "😀", "a😀", "“a”", "€"];
  const startsWrong = ["_a", "-a", ".a", "\u0301a"];
  const notDrawn = ["a\u200bb", "a\u202eb", "a\u001b[31m"];
  for (const typed of [...signs, ...startsWrong, ...notDrawn]) {
    await isAnswered(newcomer, typed, RULE);
  }
  await becomes(newcomer, "alice", "alice");
});

// ----------------------------------------------------------------------- NFKC

Deno.test("unicode names: characters that are variants of others are replaced by them", async () => {
  await using server = new TestServer();
  await becomes(await server.connect(), "ａｌｉｃｅ", "alice");
  await becomes(await server.connect(), "e\u0301va", "\u00e9va");
  await becomes(await server.connect(), "\ufb01nn", "finn");
});

Deno.test("unicode names: a name that is taken or reserved is refused, however it is typed", async () => {
  await using server = new TestServer();
  await server.joinAll("alice", "Zoë");
  const newcomer = await server.connect();
  await isAnswered(newcomer, "ａｌｉｃｅ", "The name alice is taken.");
  await isAnswered(newcomer, "Zoe\u0308", "The name Zoë is taken.");
  await isAnswered(newcomer, "ＳＹＳＴＥＭ", "The name SYSTEM is reserved.");
});

Deno.test("unicode names: a name is checked as it will be shown", async () => {
  await using server = new TestServer();
  const newcomer = await server.connect();
  // One character that stands for four words, with spaces.
  await isAnswered(newcomer, "\ufdfa", RULE);
  // Eleven characters, each of which stands for two: f and i.
  await isAnswered(newcomer, "\ufb01".repeat(11), TOO_LONG);
  // 40 characters, two of which make one: e with an accent.
  await becomes(newcomer, "e\u0301".repeat(20), "\u00e9".repeat(20));
});

// ------------------------------------------------------------ invisible names

Deno.test("unicode names: a name with a character that nobody can see is refused", async () => {
  await using server = new TestServer();
  const bob = await server.join("bob");
  const newcomer = await server.connect();
  const fillers = ["\u3164", "\u115f\u1160", "bob\uffa0"]; // letters, says Unicode
  const marks = ["bob\ufe0f", "bo\u034fb", "bob\u{e0100}", "b\u17b4ob"];
  for (const typed of [...fillers, ...marks]) {
    await isAnswered(newcomer, typed, RULE);
  }
  await becomes(newcomer, "bobby", "bobby");
  await bob.receives(announcements.joined("bobby"));
});

// ----------------------------------------------------------------------- case

Deno.test("unicode names: case does not count in any script", async () => {
  await using server = new TestServer();
  await server.joinAll("Алиса", "ΟΔΟΣ", "Straße");
  const newcomer = await server.connect();
  const sameNames = ["АЛИСА", "οδος", "οδοσ", "STRASSE", "STRAẞE", "strasse"];
  for (const typed of sameNames) {
    await isAnswered(newcomer, typed, `The name ${typed} is taken.`);
  }
  await becomes(newcomer, "Алис", "Алис");
});

/** The letters of Unicode that have another case, and that NFKC does not replace. */
function* casedLetters(): Generator<string> {
  for (let code = 0; code <= 0x10ffff; code++) {
    const char = String.fromCodePoint(code);
    const isLetter = /^\p{L}$/u.test(char) && char.normalize("NFKC") === char;
    if (isLetter && char.toUpperCase() !== char) yield char;
  }
}

Deno.test("unicode names: of every letter of Unicode, all cases are the same name", async () => {
  await using server = new TestServer();
  const newcomer = await server.connect();
  const letters = [...casedLetters()];
  for (let n = 0; n < letters.length; n += 6) {
    const name = letters.slice(n, n + 6).join("");
    const member = await server.connect();
    await becomes(member, name, name);
    const upper = name.toUpperCase(); // 18 characters at most
    for (const typed of [name, upper, upper.toLowerCase()]) {
      const shown = typed.normalize("NFKC");
      await isAnswered(newcomer, typed, `The name ${shown} is taken.`);
    }
    member.closes();
  }
});
