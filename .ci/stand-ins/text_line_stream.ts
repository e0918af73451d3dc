/**
 * A stand-in for `@std/streams/text-line-stream`. It is our own text, not the
 * code of the standard library, and it is used only where JSR cannot be
 * reached: see `.ci/vendor.ts`. It gives the same lines as the real
 * `TextLineStream`.
 *
 * @module
 */

/** Options of {@linkcode TextLineStream}. */
export interface TextLineStreamOptions {
  /** Whether a `\r` without a `\n` ends a line, too. The default is `false`. */
  allowCR?: boolean;
}

/**
 * Splits text into lines: chunks of any size go in, and each chunk that comes
 * out is one line, without its end. A line ends with `\n` or `\r\n`. Text after
 * the last line end is one more line when the stream ends; if there is no such
 * text, there is no empty last line.
 *
 * There is no limit for the length of a line. A line that never ends is kept in
 * memory until the stream ends.
 *
 * @example
 * ```ts
 * import { TextLineStream } from "@std/streams/text-line-stream";
 *
 * const lines = ReadableStream.from(["one\ntw", "o\nthree"])
 *   .pipeThrough(new TextLineStream());
 * console.log(await Array.fromAsync(lines)); // ["one", "two", "three"]
 * ```
 */
export class TextLineStream extends TransformStream<string, string> {
  readonly #allowCR: boolean;
  readonly #lineEnd: RegExp;

  /**
   * What arrived of the unfinished line, in order. The parts are joined once,
   * when the line ends. Joining them anew at each chunk would cost the square
   * of the line's length.
   */
  #parts: string[] = [];

  /**
   * Whether a `\r` at the end of the last chunk is held back. Only the next
   * character shows whether that `\r` is the first half of `\r\n`.
   */
  #isHoldingCR = false;

  /** Makes a stream. Without options, a lone `\r` is part of the text. */
  constructor(options: TextLineStreamOptions = {}) {
    super({
      transform: (chunk, controller) => this.#split(chunk, controller),
      flush: (controller) => this.#flush(controller),
    });
    this.#allowCR = options.allowCR ?? false;
    this.#lineEnd = this.#allowCR ? /\r\n|\n|\r/ : /\r?\n/;
  }

  /** Emits all lines that end in this chunk, and keeps the rest of it. */
  #split(
    chunk: string,
    controller: TransformStreamDefaultController<string>,
  ): void {
    let text = this.#isHoldingCR ? "\r" + chunk : chunk;
    this.#isHoldingCR = text.endsWith("\r");
    if (this.#isHoldingCR) text = text.slice(0, -1);

    const lines = text.split(this.#lineEnd);
    const unfinished = lines.pop() ?? "";
    const [endOfLine, ...wholeLines] = lines;
    if (endOfLine !== undefined) {
      this.#parts.push(endOfLine);
      controller.enqueue(this.#takeLine());
    }
    for (const line of wholeLines) controller.enqueue(line);
    if (unfinished !== "") this.#parts.push(unfinished);
  }

  /** Emits the text after the last line end, if there is any. */
  #flush(controller: TransformStreamDefaultController<string>): void {
    if (this.#parts.length === 0 && !this.#isHoldingCR) return;
    const isText = this.#isHoldingCR && !this.#allowCR;
    if (isText) this.#parts.push("\r");
    controller.enqueue(this.#takeLine());
  }

  /** Joins the parts of the current line and starts the next line. */
  #takeLine(): string {
    const line = this.#parts.join("");
    this.#parts = [];
    return line;
  }
}
