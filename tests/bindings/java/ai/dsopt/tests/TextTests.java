package ai.dsopt.tests;

import static ai.dsopt.tests.Suite.equal;
import static ai.dsopt.tests.Suite.that;
import static ai.dsopt.tests.Suite.thrown;

import ai.dsopt.DsoptException;
import ai.dsopt.GenerateOptions;
import ai.dsopt.Message;
import ai.dsopt.Model;
import ai.dsopt.Runtime;
import ai.dsopt.Sampling;
import ai.dsopt.Session;
import ai.dsopt.Stream;
import ai.dsopt.TextFlag;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;

/** Scenario 9. */
final class TextTests {
  private static final String TEXT = "grüße 机器人 🤖👩‍🚀";

  private TextTests() {}

  static void add(Suite suite) {
    suite.test("text: every character survives tokens and back", TextTests::roundTrip);
    suite.test("text: chat formatting, file names and messages keep every character", TextTests::elsewhere);
    suite.test("text: pieces hold whole characters only", TextTests::wholeCharacters);
    suite.test("text: NUL is a character of text, and of no name", TextTests::nul);
    suite.test("text: what is no text is refused, a part of a character keeps its bytes", TextTests::invalid);
  }

  private static void roundTrip() {
    try (Model model = Demo.model(); Session session = model.newSession()) {
      int[] tokens = model.tokenize(TEXT);
      equal(TEXT, model.detokenize(tokens), "text");
      equal(tokens, model.tokenizeUtf8(TEXT.getBytes(StandardCharsets.UTF_8)), "tokens of the bytes");
      equal(TEXT, model.detokenize(session.newStream().append(TEXT, new TextFlag[0]).tokens(0)),
          "text of a stream");
      StringBuilder all = new StringBuilder();
      for (int c = 1; c < 0x110000; c += 997) {
        all.appendCodePoint(c >= 0xd800 && c < 0xe000 ? 'x' : c);
      }
      equal(all.toString(), model.detokenize(model.tokenize(all.toString())), "text of all planes");
      int[] begin = model.tokenize("go", TextFlag.ADD_BOS);
      equal(begin, session.newStream().append("go").tokens(0), "the first text begins with the start token");
      equal("", model.detokenize(new int[] {model.info().eos()}, TextFlag.SKIP_SPECIAL),
          "a control token left out");
    }
  }

  private static void elsewhere() throws IOException {
    Path folder = Files.createTempDirectory("dsopt-test");
    String file = folder + "/модель 🤖.dsopt";
    try (Runtime runtime = Demo.runtime(); Model model = Demo.model()) {
      that(model.formatChat(List.of(Message.user(TEXT)), true).contains(TEXT), "chat");
      Files.write(Path.of(file), Demo.bytes());
      runtime.open(file).close();
      thrown(DsoptException.NotFound.class, TEXT, () -> runtime.open(folder + "/" + TEXT));
      thrown(DsoptException.NotFound.class, "机器人🤖", () -> runtime.measureRead("机器人🤖", 0));
    } finally {
      Files.deleteIfExists(Path.of(file));
      Files.delete(folder);
    }
  }

  private static void wholeCharacters() {
    try (Model model = Demo.model(); Session session = model.newSession()) {
      Sampling wild = Sampling.builder().temperature(100).seed(7).build();
      Stream stream = Demo.prompted(session);
      int prompt = stream.tokenCount();
      int parts = 0;
      StringBuilder text = new StringBuilder();
      for (String piece :
          stream.generate(GenerateOptions.builder().sampling(wild).ignoreEos().maxTokens(400).build())) {
        parts += piece.codePoints().anyMatch(c -> c > 127) ? 1 : 0;
        that(piece.codePoints().noneMatch(c -> c >= 0xd800 && c < 0xe000), "half a character: " + piece);
        text.append(piece);
      }
      that(parts > 0, "no piece had a character above ASCII");
      that(stream.tokenCount() == prompt + 400 && text.length() > 400, "tokens");
    }
  }

  private static void nul() {
    try (Runtime runtime = Demo.runtime(); Model model = Demo.model(); Session session = model.newSession()) {
      equal("a\0b", model.detokenize(model.tokenize("a\0b")), "text with NUL");
      Stream stream = Demo.prompted(session);
      List<Suite.Body> names = List.of(()
                                           -> runtime.open(Demo.MODEL + "\0x"),
          ()
              -> model.metadata("license\0"),
          ()
              -> runtime.measureRead("cpu\0", 0),
          ()
              -> stream.generate(Demo.greedy().stop("\0").build()),
          () -> model.formatChat(List.of(new Message("user\0", "x")), true));
      for (Suite.Body name : names) {
        thrown(DsoptException.InvalidArgument.class, "a NUL character at index", name);
      }
    }
  }

  private static void invalid() {
    try (Runtime runtime = Demo.runtime(); Model model = Demo.model(); Session session = model.newSession()) {
      String half = "ab\ud83e";
      List<Suite.Body> calls = List.of(()
                                           -> model.tokenize(half),
          ()
              -> session.newStream().append(half),
          ()
              -> runtime.open(half),
          ()
              -> model.generate(half),
          () -> model.formatChat(List.of(Message.user(half)), true), () -> model.metadata(half));
      for (Suite.Body call : calls) {
        thrown(DsoptException.InvalidArgument.class, "an unpaired surrogate at index 2, expected valid UTF-16",
            call);
      }
      byte[] broken = {'a', (byte) 0xff, (byte) 0xc3, 'b'};
      for (Suite.Body call :
          List.<Suite.Body>of(() -> model.tokenizeUtf8(broken), () -> session.newStream().appendUtf8(broken))) {
        thrown(DsoptException.InvalidArgument.class, "invalid UTF-8 at byte 1", call);
      }
      int[] robot = model.tokenize("🤖");
      byte[] part = model.detokenizeUtf8(Arrays.copyOf(robot, robot.length - 1));
      that(part.length > 0 && part.length < 4, "bytes of a part of a character: " + part.length);
      that(model.detokenize(Arrays.copyOf(robot, robot.length - 1)).contains("\ufffd"), "as a string");
    }
  }
}
