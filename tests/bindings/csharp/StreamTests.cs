// StreamTests.cs - scenarios 2 (stream), 3 (cancel) and 4 (budgeted poll).
using System;
using System.Collections.Generic;
using System.Threading;
using System.Threading.Tasks;

namespace Dsopt.Tests
{
    public static class StreamTests
    {
        private static readonly TimeSpan OneMillisecond = TimeSpan.FromMilliseconds(1);

        public static void Run(Runner runner)
        {
            runner.Test("the pieces of a streamed generation are the answer, and its end is told", PiecesAreTheAnswer);
            runner.Test("events bring tokens, log probabilities and the most probable tokens", EventsBringTokens);
            runner.Test("stop strings, stop tokens, biases and MaxTokens end a generation", Stops);
            runner.Test("the same seed draws the same tokens, another one others", Seeds);
            runner.Test("an asynchronous reader gives the same pieces, two of one session take turns",
                AsynchronousReaders);
            runner.Test("logits are filled into the caller's array and their best is the next token", Logits);
            runner.Test("scores of a prompt are log probabilities of its tokens", Scores);
            runner.Test("a generation without end is cancelled from another thread", CancelFromAnotherThread);
            runner.Test("a cancellation token ends a reader with an OperationCanceledException, and the stream goes on",
                TokenEndsReader);
            runner.Test("a cancellation token cancels the task of an asynchronous reader", TokenEndsAsynchronousReader);
            runner.Test("leaving a foreach early cancels its generation", LeavingEarlyCancels);
            runner.Test("Interrupt and a token end a wait, and the stream goes on afterwards", InterruptEndsWait);
            runner.Test("polls of 1 ms bring the text of one without a budget, and count its tokens", BudgetedPoll);
            runner.Test("a poll without a budget calculates nothing", PollWithoutBudget);
        }

        private static void PiecesAreTheAnswer()
        {
            using (var demo = new Demo())
            using (Stream stream = demo.Ask())
            {
                long prompt = stream.TokenCount;
                var pieces = new List<string>();
                foreach (string piece in stream.Read(Demo.Greedy())) pieces.Add(piece);
                Check.Equal(Demo.Expected, string.Concat(pieces), "pieces");
                Check.That(pieces.Count > 1, "they came one after the other");
                Check.That(!pieces.Contains(""), "none is empty");
                Check.Equal(FinishReason.EndOfText, stream.Finish, "finish");
                Check.Equal(null, stream.Error, "error");
                Check.Equal(stream.TokenCount, (long)stream.GetTokens().Length, "tokens");
                Check.Contains(Demo.Expected, demo.Model.Detokenize(stream.GetTokens((int)prompt)),
                    "text of the new tokens");
                Check.Equal("", string.Concat(stream.Read()), "a second reading");
                SessionStats stats = demo.Session.Stats;
                Check.That(stats.DecodeTokens > 0 && stats.PrefillTokens >= prompt, "statistics count tokens");
                Check.That(stats.CacheTokensUsed > 0 && stats.CacheTokensUsed <= stats.CacheTokensTotal,
                    "and the cache");
                Check.Equal(0, stats.ReplayedBatches, "graphs on the CPU");
            }
        }

        private static void EventsBringTokens()
        {
            using (var demo = new Demo())
            using (Stream stream = demo.Ask())
            {
                long prompt = stream.TokenCount;
                GenerateOptions options = Demo.Greedy();
                options.TopLogProbabilities = 3;
                options.LogProbabilities = true;
                stream.Generate(options);
                var tokens = new List<int>();
                StreamEvent e = null;
                while (e == null || e.Kind == EventKind.Text)
                {
                    if (!stream.TryRead(out e))
                    {
                        Check.Equal(WaitResult.Event, demo.Session.Wait(TimeSpan.FromSeconds(30)), "wait");
                        continue;
                    }
                    Check.Equal(e.Tokens.Length, e.LogProbabilities.Length, "one log probability per token");
                    Check.Equal(e.Tokens.Length * e.TopCount, e.TopTokens.Length, "top tokens");
                    for (int i = 0; i < e.Tokens.Length; ++i)
                    {
                        Check.That(e.LogProbabilities[i] <= 0, "a probability is at most 1");
                        Check.Equal(3, e.TopCount, "top count");
                        Check.Equal(e.Tokens[i], e.TopTokens[3 * i], "greedy takes the most probable");
                        Check.Equal(e.LogProbabilities[i], e.TopLogProbabilities[3 * i],
                            "and tells the same probability");
                    }
                    tokens.AddRange(e.Tokens);
                }
                Check.Equal(EventKind.Done, e.Kind, "last event");
                Check.Same(stream.GetTokens((int)prompt), tokens.ToArray(), "tokens of the events");
            }
        }

        private static void Stops()
        {
            using (var demo = new Demo())
            {
                Func<GenerateOptions, FinishReason, string> run = (options, finish) =>
                {
                    using (Stream stream = demo.Ask())
                    {
                        string text = Demo.Text(stream, options);
                        Check.Equal(finish, stream.Finish, "finish");
                        return text;
                    }
                };
                var stop = new GenerateOptions { Sampling = new Sampling(), Stop = { "goto" } };
                Check.Equal("[{\"action\":\"", run(stop, FinishReason.Stop), "text before a stop string");
                Check.That(run(Demo.Greedy(3), FinishReason.Length).Length < Demo.Expected.Length,
                    "three tokens are less");
                int first;
                using (Stream stream = demo.Ask())
                {
                    int prompt = (int)stream.TokenCount;
                    Demo.Text(stream, Demo.Greedy(1));
                    first = stream.GetTokens(prompt)[0];
                }
                stop = new GenerateOptions { Sampling = new Sampling(), StopTokens = { first } };
                Check.Equal("", run(stop, FinishReason.EndOfText), "text before a stop token");
                var banned = Demo.Greedy(1);
                banned.LogitBias[first] = float.NegativeInfinity;
                using (Stream stream = demo.Ask())
                {
                    int prompt = (int)stream.TokenCount;
                    Demo.Text(stream, banned);
                    Check.That(stream.GetTokens(prompt)[0] != first, "a banned token is not drawn");
                }
            }
        }

        private static void Seeds()
        {
            using (var demo = new Demo())
            {
                Func<ulong, string> draw = seed =>
                {
                    using (Stream stream = demo.Ask())
                        return Demo.Text(stream, new GenerateOptions
                        {
                            MaxTokens = 40,
                            IgnoreEndOfText = true,
                            Sampling = new Sampling { Temperature = 3, Seed = seed },
                        });
                };
                Check.Equal(draw(5), draw(5), "twice the same seed");
                Check.That(draw(5) != draw(6), "another seed draws other tokens");
            }
        }

        private static void AsynchronousReaders()
        {
            using (var demo = new Demo(new SessionOptions { MaxStreams = 2 }))
            using (Stream one = demo.Ask(), two = demo.Ask("open the window"))
            {
                Task<string> first = ReadAll(one.ReadAsync(Demo.Greedy()));
                Task<string> second = ReadAll(two.ReadAsync(Demo.Greedy()));
                Check.Equal(Demo.Expected, first.Result, "first");
                Check.Contains("\"action\":\"open\"", second.Result, "second");
                Check.Equal(FinishReason.EndOfText, one.Finish, "finish");
            }
        }

        // What "await foreach" becomes.
        private static async Task<string> ReadAll(PieceReader reader)
        {
            string text = "";
            PieceReader pieces = reader.GetAsyncEnumerator();
            try
            {
                while (await pieces.MoveNextAsync()) text += pieces.Current;
            }
            finally
            {
                pieces.DisposeAsync().Wait();
            }
            return text;
        }

        private static void Logits()
        {
            using (var demo = new Demo())
            using (Stream stream = demo.Ask())
            {
                int prompt = (int)stream.TokenCount;
                Demo.Text(stream, new GenerateOptions { PrefillOnly = true });
                Check.Equal(FinishReason.Length, stream.Finish, "finish of a prompt that was only read");
                var mine = new float[demo.Model.Info.VocabSize + 10];
                for (int i = 0; i < mine.Length; ++i) mine[i] = 77;
                Check.Equal(demo.Model.Info.VocabSize, stream.GetLogits(mine), "logits");
                Check.Equal(77f, mine[mine.Length - 1], "what lies behind them is not touched");
                float[] all = stream.GetLogits();
                int best = 0;
                for (int i = 0; i < all.Length; ++i)
                {
                    Check.Equal(mine[i], all[i], "logit " + i);
                    if (all[i] > all[best]) best = i;
                }
                Demo.Text(stream, Demo.Greedy(1));
                Check.Equal(best, stream.GetTokens(prompt)[0], "the token drawn next");
            }
        }

        private static void Scores()
        {
            using (var demo = new Demo())
            using (Stream stream = demo.Ask())
            {
                Demo.Text(stream, new GenerateOptions { PrefillOnly = true, Score = true });
                float[] scores = stream.GetLogProbabilities();
                Check.Equal(stream.TokenCount, (long)scores.Length, "scores");
                Check.That(float.IsNaN(scores[0]), "nothing comes before the first token");
                for (int i = 1; i < scores.Length; ++i)
                    Check.That(scores[i] <= 0, "score " + i + " is a log probability");
                Check.Equal(scores.Length - 2, stream.GetLogProbabilities(2).Length, "scores from the third token on");
            }
        }

        private static void CancelFromAnotherThread()
        {
            using (var demo = new Demo())
            using (Stream stream = demo.Ask())
            {
                stream.Generate(Demo.Endless());
                var canceller = new Thread(() => { Thread.Sleep(30); stream.Cancel(); });
                canceller.Start();
                demo.Session.Poll(Timeout.InfiniteTimeSpan);
                canceller.Join();
                StreamEvent e;
                do Check.That(stream.TryRead(out e), "an end is told"); while (e.Kind == EventKind.Text);
                Check.Equal(FinishReason.Cancelled, e.Finish, "finish of the event");
                Check.Equal(FinishReason.Cancelled, stream.Finish, "finish of the stream");
            }
        }

        private static void TokenEndsReader()
        {
            using (var demo = new Demo())
            using (Stream stream = demo.Ask())
            {
                long prompt = stream.TokenCount;
                var cancellation = new CancellationTokenSource();
                int pieces = 0;
                var e = Check.Throws<DsoptCancelledException>(() =>
                {
                    foreach (string piece in stream.Read(Demo.Endless(), cancellation.Token))
                    {
                        if (++pieces == 5) cancellation.Cancel();
                    }
                }, "reader");
                Check.That(pieces >= 5 && pieces < 20, "it ended soon, after " + pieces + " pieces");
                Check.Equal(cancellation.Token, e.CancellationToken, "token");
                Check.Equal(DsoptStatus.Cancelled, ((IDsoptError)e).Code, "code");
                Check.Equal(FinishReason.Cancelled, stream.Finish, "finish");
                stream.Rewind(prompt);
                Check.Equal(Demo.Expected, Demo.Text(stream), "answer afterwards");
                Check.Throws<DsoptCancelledException>(() => stream.Read(Demo.Greedy(), cancellation.Token),
                    "a token that was cancelled before");
            }
        }

        private static void TokenEndsAsynchronousReader()
        {
            using (var demo = new Demo())
            using (Stream stream = demo.Ask())
            using (var cancellation = new CancellationTokenSource())
            {
                PieceReader reader = stream.ReadAsync(Demo.Endless()).GetAsyncEnumerator(cancellation.Token);
                Check.That(reader.MoveNextAsync().Result, "there is a piece");
                cancellation.Cancel();
                Task<bool> last;
                do last = reader.MoveNextAsync(); while (Ended(last) && last.Result);
                Check.That(last.IsCanceled, "the task is cancelled, not " + last.Status);
                Check.Throws<DsoptCancelledException>(() => last.GetAwaiter().GetResult(), "its exception");
                reader.DisposeAsync().Wait();
            }
        }

        // Whether it ran to completion; waits.
        private static bool Ended(Task task)
        {
            ((IAsyncResult)task).AsyncWaitHandle.WaitOne();
            return task.Status == TaskStatus.RanToCompletion;
        }

        private static void LeavingEarlyCancels()
        {
            using (var demo = new Demo())
            using (Stream stream = demo.Ask())
            {
                long prompt = stream.TokenCount;
                foreach (string piece in stream.Read(Demo.Endless())) break;
                stream.Rewind(prompt); // not allowed while generating
                Check.Equal(Demo.Expected, Demo.Text(stream), "answer afterwards");
                PieceReader reader = stream.ReadAsync(Demo.Endless());
                Check.That(reader.MoveNextAsync().Result, "there is a piece");
                reader.Dispose();
                stream.Rewind(prompt);
            }
        }

        private static void InterruptEndsWait()
        {
            using (var demo = new Demo())
            using (Stream stream = demo.Ask())
            {
                stream.Generate(Demo.Greedy());
                demo.Session.Interrupt();
                Check.Equal(WaitResult.Interrupted, demo.Session.Wait(TimeSpan.FromSeconds(30)),
                    "an interrupt before the wait");
                Check.Equal(WaitResult.Timeout, demo.Session.Wait(TimeSpan.Zero), "no time");
                using (var cancellation = new CancellationTokenSource())
                {
                    cancellation.Cancel();
                    Check.Throws<DsoptCancelledException>(
                        () => demo.Session.Wait(TimeSpan.FromSeconds(30), cancellation.Token), "a token");
                }
                Check.Equal(Demo.Expected, string.Concat(stream.Read()), "answer afterwards");
            }
        }

        private static void BudgetedPoll()
        {
            using (var demo = new Demo())
            using (Stream stream = demo.Ask())
            {
                long prompt = stream.TokenCount;
                stream.Generate(Demo.Greedy());
                int sampled = 0, polls = 0;
                string text = "";
                PollResult result;
                do
                {
                    result = demo.Session.Poll(OneMillisecond);
                    ++polls;
                    sampled += result.TokensSampled;
                    Check.Equal(result.Finished ? 0 : 1, result.ActiveStreams, "active streams");
                    StreamEvent e;
                    while (stream.TryRead(out e)) text += e.Text;
                } while (!result.Finished);
                Check.That(polls > 3, "it took several polls: " + polls);
                Check.Equal(Demo.Expected, text, "text");
                Check.Equal(stream.TokenCount - prompt, (long)sampled, "tokens sampled");
                using (Stream other = demo.Ask())
                {
                    other.Generate(Demo.Greedy());
                    result = demo.Session.Poll(Timeout.InfiniteTimeSpan);
                    Check.That(result.Finished && result.ReadyEvents > 0,
                        "a poll without a limit ends with the generation");
                    Check.That(result.Spent > TimeSpan.Zero, "and tells its time");
                    string whole = "";
                    StreamEvent e;
                    while (other.TryRead(out e)) whole += e.Text;
                    Check.Equal(text, whole, "text of one poll");
                }
            }
        }

        private static void PollWithoutBudget()
        {
            using (var demo = new Demo())
            using (Stream stream = demo.Ask())
            {
                stream.Generate(Demo.Greedy());
                for (int i = 0; i < 100; ++i)
                {
                    PollResult result = demo.Session.Poll(i % 2 == 0 ? TimeSpan.Zero : TimeSpan.FromSeconds(-1));
                    Check.That(!result.Finished && result.TokensSampled == 0, "nothing was calculated");
                }
                Check.Equal(0, demo.Session.Stats.Batches, "batches");
            }
        }
    }
}
