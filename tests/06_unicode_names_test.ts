/**
 * Lesson 6: Unicode in names.
 *
 * A name says who wrote a message. So people must be able to see it, and two spellings
 * of one name must count as the same name. Otherwise a newcomer can take the name of a
 * member. With ASCII this is simple. Unicode has the letters of nearly all scripts, and
 * several ways to write some of them: é is one character, or e and an accent. Some of
 * its characters are invisible. Its case rules can be surprising: the German ß has two
 * forms in upper case, ẞ and SS.
 *
 * User accounts and domain names have the same problem. Three tools help. The
 * properties of a character say, for example, whether it is a letter. Normalization
 * (NFC, NFKC) chooses one of several spellings. Case folding makes texts match that
 * differ only in case. RFC 8265 has rules for user names, and IDNA for domain names.
 */

import {
  announcements,
  assertLine,
  type Person,
  TestServer,
} from "./helpers.ts";

/** Fails unless the server accepts what the newcomer types, and shows this name. */
async function becomes(
  newcomer: Person,
  typed: string,
  name: string,
): Promise<void> {
  await newcomer.sends(typed);
  const line = await newcomer.nextLine();
  // The list of users, which follows the name, is not compared.
  const answer = /^\[SYSTEM\] Welcome, .+!(?= Active users)/.exec(line)?.[0];
  const who = `A client that asks for the name ${describe(typed)}`;
  assertLine(answer ?? line, `[SYSTEM] Welcome, ${name}!`, who);
}

/** Fails unless the server refuses what the newcomer types, for this reason. */
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

/** A name in quotes. If it is not plain ASCII: its code points, at most 24. */
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

Deno.test("unicode names: a name may have 20 characters of any script, but not 21", async () => {
  await using server = new TestServer();
  const rare = "\u{20000}"; // a Chinese character that takes two UTF-16 code units
  for (const char of ["я", "字", rare]) {
    const newcomer = await server.connect();
    await isAnswered(newcomer, char.repeat(21), TOO_LONG);
    await becomes(newcomer, char.repeat(20), char.repeat(20));
  }
});

Deno.test("unicode names: a name may have only letters, digits, marks and . - _, a letter or digit first", async () => {
  await using server = new TestServer();
  const newcomer = await server.connect();
  const signs = ["two words", "a!", "a:", "a/b", "😀", "a😀", "“a”", "€"];
  const startsWrong = ["_a", "-a", ".a", "\u0301a"];
  // A space without width, a change of direction, and a command to the terminal.
  const notDrawn = ["a\u200bb", "a\u202eb", "a\u001b[31m"];
  for (const typed of [...signs, ...startsWrong, ...notDrawn]) {
    await isAnswered(newcomer, typed, RULE);
  }
  await becomes(newcomer, "alice", "alice");
});

// ----------------------------------------------------------------------- NFKC

Deno.test("unicode names: if a character can be written in several ways, the server uses one (NFKC)", async () => {
  await using server = new TestServer();
  await becomes(await server.connect(), "ａｌｉｃｅ", "alice");
  await becomes(await server.connect(), "e\u0301va", "\u00e9va");
  await becomes(await server.connect(), "\ufb01nn", "finn");
});

Deno.test("unicode names: a taken or reserved name is refused in all its spellings", async () => {
  await using server = new TestServer();
  await server.joinAll("alice", "Zoë");
  const newcomer = await server.connect();
  await isAnswered(newcomer, "ａｌｉｃｅ", "The name alice is taken.");
  await isAnswered(newcomer, "Zoe\u0308", "The name Zoë is taken.");
  await isAnswered(newcomer, "ＳＹＳＴＥＭ", "The name SYSTEM is reserved.");
});

Deno.test("unicode names: the server normalizes a name before it checks its characters and its length", async () => {
  await using server = new TestServer();
  const newcomer = await server.connect();
  // NFKC replaces this one character by four words with spaces.
  await isAnswered(newcomer, "\ufdfa", RULE);
  // NFKC replaces each of these 11 characters by two, f and i. So there are 22.
  await isAnswered(newcomer, "\ufb01".repeat(11), TOO_LONG);
  // NFKC combines each e and its accent into one character. So 40 become 20.
  await becomes(newcomer, "e\u0301".repeat(20), "\u00e9".repeat(20));
});

// ------------------------------------------------------------ invisible names

Deno.test("unicode names: a name with an invisible character is refused", async () => {
  await using server = new TestServer();
  const bob = await server.join("bob");
  const newcomer = await server.connect();
  // For Unicode, these invisible characters are letters, and the next ones are marks.
  const fillers = ["\u3164", "\u115f\u1160", "bob\uffa0"];
  const marks = ["bob\ufe0f", "bo\u034fb", "bob\u{e0100}", "b\u17b4ob"];
  for (const typed of [...fillers, ...marks]) {
    await isAnswered(newcomer, typed, RULE);
  }
  await becomes(newcomer, "bobby", "bobby");
  await bob.receives(announcements.joined("bobby")); // and nothing before this line
});

// ----------------------------------------------------------------------- case

Deno.test("unicode names: Latin, Greek or Cyrillic names that differ only in case are the same name", async () => {
  await using server = new TestServer();
  await server.joinAll("Алиса", "ΟΔΟΣ", "Straße");
  const newcomer = await server.connect();
  const sameNames = ["АЛИСА", "οδος", "οδοσ", "STRASSE", "STRAẞE", "strasse"];
  for (const typed of sameNames) {
    await isAnswered(newcomer, typed, `The name ${typed} is taken.`);
  }
  await becomes(newcomer, "Алис", "Алис");
});

/** The letters of Unicode that upper case changes, and that NFKC does not change. */
function* casedLetters(): Generator<string> {
  for (let code = 0; code <= 0x10ffff; code++) {
    const char = String.fromCodePoint(code);
    const isLetter = /^\p{L}$/u.test(char) && char.normalize("NFKC") === char;
    if (isLetter && char.toUpperCase() !== char) yield char;
  }
}

Deno.test("unicode names: for every letter of Unicode, upper case and lower case are the same name", async () => {
  await using server = new TestServer();
  const newcomer = await server.connect();
  const letters = [...casedLetters()];
  for (let n = 0; n < letters.length; n += 6) {
    const name = letters.slice(n, n + 6).join("");
    const member = await server.connect();
    await becomes(member, name, name);
    // In upper case, a letter becomes at most three. So six letters are at most 18
    // characters, which is a name that is not too long.
    const upper = name.toUpperCase();
    for (const typed of [name, upper, upper.toLowerCase()]) {
      const shown = typed.normalize("NFKC");
      await isAnswered(newcomer, typed, `The name ${shown} is taken.`);
    }
    member.closes();
  }
});
