// Chat.java - a chat in a terminal window: answers stream, Ctrl-C ends the answer and at the prompt the
// program, statistics come at the end. Input may also be a file or a pipe, one message a line.
//   java -cp dsopt-1.0.0.jar Chat.java MODEL.dsopt [--system TEXT] [--max-tokens N] [--temperature T]
//   [--endless]

import ai.dsopt.DsoptException;
import ai.dsopt.Finish;
import ai.dsopt.GenerateOptions;
import ai.dsopt.Generation;
import ai.dsopt.Message;
import ai.dsopt.Model;
import ai.dsopt.Sampling;
import ai.dsopt.Session;
import ai.dsopt.SessionStats;
import ai.dsopt.Stream;
import ai.dsopt.TextFlag;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.Proxy;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

public final class Chat {
  private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

  private final Model model;
  private final Session session;
  private final Stream stream;
  private final GenerateOptions options;
  private final List<Message> messages = new ArrayList<>();
  private volatile Generation answering;
  private Duration waited = Duration.ZERO;
  private int answers;

  private Chat(Model model, GenerateOptions options) {
    this.model = model;
    this.options = options;
    session = model.newSession();
    stream = session.newStream();
  }

  public static void main(String[] args) throws IOException {
    String system = null;
    GenerateOptions.Builder options = GenerateOptions.builder();
    try {
      for (int i = 1; i < args.length; ++i) {
        switch (args[i]) {
          case "--system" -> system = args[++i];
          case "--max-tokens" -> options.maxTokens(Integer.parseInt(args[++i]));
          case "--temperature" -> options.sampling(sampling(Double.parseDouble(args[++i])));
          case "--endless" -> options.ignoreEos(); // to try Ctrl-C with a model of short answers
          default -> throw new IllegalArgumentException();
        }
      }
    } catch (DsoptException | IllegalArgumentException | ArrayIndexOutOfBoundsException wrong) {
      args = new String[0];
    }
    if (args.length < 1 || args[0].startsWith("--")) {
      System.err.println(
          "usage: Chat MODEL.dsopt [--system TEXT] [--max-tokens N] [--temperature T] [--endless]");
      System.exit(2);
    }
    try (Model model = Model.open(args[0])) {
      Chat chat = new Chat(model, options.build());
      if (system != null) {
        chat.messages.add(Message.system(system));
      }
      OUT.println(args[0] + " on " + model.info().device() + ". Ctrl-C ends an answer, at the prompt the program.");
      onInterrupt(chat::interrupted);
      chat.run();
      chat.statistics();
    } catch (DsoptException failure) {
      System.err.println(failure.code() + ": " + failure.getMessage());
      System.exit(1);
    }
  }

  private static Sampling sampling(double temperature) {
    return Sampling.builder().temperature(temperature).topP(0.95).build();
  }

  private void run() throws IOException {
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (;;) {
      OUT.print("> ");
      OUT.flush();
      String line = in.readLine();
      if (line == null) {
        OUT.println();
        return;
      }
      if (!line.isBlank()) {
        answer(line);
      }
    }
  }

  private void answer(String question) {
    messages.add(Message.user(question));
    prompt();
    StringBuilder answer = new StringBuilder();
    long asked = System.nanoTime();
    try (Generation generation = stream.generate(options)) {
      answering = generation;
      for (String piece : generation) {
              if (answer.isEmpty()) {
                waited = waited.plusNanos(System.nanoTime() - asked);
                ++answers;
              }
              answer.append(piece);
              OUT.print(piece);
              OUT.flush();
            }
            OUT.println(note(generation.finish()));
        }
        finally {
          answering = null;
        }
        messages.add(Message.assistant(answer.toString()));
      }

      /** Brings the chat so far into the stream. What is in its cache already is not computed again. */
      private void prompt() {
        int[] tokens = tokens();
        int room = model.info().contextLength() - 64;
        while (tokens.length > room && messages.size() > 2) { // forget the oldest question and answer
          int oldest = messages.get(0).role().equals("system") ? 1 : 0;
          messages.subList(oldest, Math.min(oldest + 2, messages.size() - 1)).clear();
          tokens = tokens();
        }
        int[] cached = stream.tokens(0);
        int same = 0;
        while (same < tokens.length - 1 && same < cached.length && tokens[same] == cached[same]) {
          ++same;
        }
        stream.rewind(same);
        stream.appendTokens(Arrays.copyOfRange(tokens, same, tokens.length));
      }

      private int[] tokens() {
        return model.tokenize(model.formatChat(messages, true), TextFlag.PARSE_SPECIAL);
      }

      private static String note(Finish finish) {
        return switch (finish) {
      case CANCELLED -> " [cancelled]";
      case LENGTH -> " [cut at the length limit]";
      default -> "";
    };
  }

  /** Ctrl-C, on the thread of signals. */
  private void interrupted() {
    Generation generation = answering;
    if (generation != null) {
      generation.cancel();
      return;
    }
    OUT.println();
    statistics();
    java.lang.Runtime.getRuntime().halt(0); // the main thread waits for input and cannot be woken
  }

  private void statistics() {
    SessionStats stats = session.stats();
    OUT.printf(
        "%d answers; first text after %.1f ms on average%n", answers, millis(waited) / Math.max(1, answers));
    OUT.printf("prompts  %6d tokens %s%n", stats.prefillTokens(), rate(stats.prefillTokens(), stats.prefillTime()));
    OUT.printf("answers  %6d tokens %s%n", stats.decodeTokens(), rate(stats.decodeTokens(), stats.decodeTime()));
    OUT.printf("cache    %6d of %d tokens%n", stats.kvTokensUsed(), stats.kvTokensTotal());
    OUT.flush();
  }

  private static String rate(long tokens, Duration time) {
    return time.isZero() ? "" :
        String.format("%9.1f tokens/s", tokens * 1000 / millis(time));
        }

        private static double millis(Duration time) {
          return time.toNanos() / 1e6;
        }

        /** sun.misc.Signal by name: the JDK has it, but javac warns of it. */
        private static void onInterrupt(Runnable action) {
          try {
            Class<?> signal = Class.forName("sun.misc.Signal");
            Class<?> handler = Class.forName("sun.misc.SignalHandler");
            Object proxy = Proxy.newProxyInstance(
                Chat.class.getClassLoader(), new Class<?>[] {handler}, (self, method, arguments) -> {
                  action.run();
                  return null;
                });
            signal.getMethod("handle", signal, handler)
                .invoke(null, signal.getConstructor(String.class).newInstance("INT"), proxy);
          } catch (ReflectiveOperationException absent) {
            System.err.println("no signals in this Java: Ctrl-C ends the program");
          }
        }
      }
