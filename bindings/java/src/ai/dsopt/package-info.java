/**
 * Language-model inference inside your program: open a model, stream text, keep a time budget.
 *
 * <pre>{@code
 * try (Model model = Model.open("model.dsopt")) {
 *   for (String piece : model.generate("Once upon a time")) {
 *     System.out.print(piece);
 *   }
 * }
 * }</pre>
 *
 * <p><b>Objects.</b> {@link ai.dsopt.Runtime} &gt; {@link ai.dsopt.Model} &gt; {@link ai.dsopt.Session} &gt;
 * {@link ai.dsopt.Stream}. A child keeps what it needs of its parent alive, so they may be closed in any order.
 * What is not closed is released after the garbage collector has found it unreachable. Closing twice is
 * harmless; every other use after {@code close} throws {@link ai.dsopt.DsoptException.InvalidState}.
 *
 * <p><b>Errors.</b> Every failure is a {@link ai.dsopt.DsoptException} with its {@link ai.dsopt.Status} and the
 * library's one-line message. A failed call leaves its objects as they were.
 *
 * <p><b>Threads.</b> Any thread may use any object. Calls that change one session or its streams run one at a
 * time: a second one meanwhile throws {@link ai.dsopt.DsoptException.Busy}. Methods named {@code cancel},
 * {@code interrupt} and {@code close}, and those that only ask, may be called at any moment.
 *
 * <p><b>Callbacks.</b> Listeners run on the thread that is inside {@code poll}, {@code await} or {@code open};
 * what they throw comes back out of that call. The log listener alone may be called on any thread.
 *
 * <p><b>Text.</b> Java strings in and out; all of Unicode survives. A string with an unpaired surrogate is no
 * text and is refused. Where the exact bytes matter there are methods that take or give UTF-8.
 *
 * <p><b>Time.</b> Budgets are {@link java.time.Duration}s of at least zero, in microseconds.
 */
package ai.dsopt;
