// CallbackTests.cs - scenario 10: callbacks, and what they throw.
using System;
using System.Collections.Generic;
using System.Runtime.CompilerServices;
using System.Threading;

namespace Dsopt.Tests
{
    public static class CallbackTests
    {
        private sealed class Mine : Exception
        {
            public Mine(string message) : base(message)
            {
            }
        }

        public static void Run(Runner runner)
        {
            runner.Test("an event callback receives the text, the tokens and the end, on the thread that polls",
                EventsArrive);
            runner.Test("an event callback that returns false cancels its stream", ReturningFalseCancels);
            runner.Test("an exception of an event callback comes out of Poll and Wait as the same object",
                EventCallbackThrows);
            runner.Test("exceptions of several callbacks in one poll come together", SeveralThrow);
            runner.Test("an exception of a progress callback comes out of the open as the same object",
                ProgressCallbackThrows);
            runner.Test("an exception of a log callback harms nobody", LogCallbackThrows);
            runner.Test("log lines arrive with level, component and text, also from other threads", LogLines);
            runner.Test("a call that must be alone is busy inside a callback, and allowed calls work",
                CallsInsideCallbacks);
            runner.Test("everything may be disposed of inside a callback", DisposeInside);
            runner.Test("a callback stays alive until its generation ends, and is collected afterwards",
                CallbackLifetime);
        }

        private static void EventsArrive()
        {
            using (var demo = new Demo())
            using (Stream stream = demo.Ask())
            {
                string text = "";
                int tokens = 0, thread = Thread.CurrentThread.ManagedThreadId;
                var kinds = new List<EventKind>();
                GenerateOptions options = Demo.Greedy();
                options.OnEvent = e =>
                {
                    Check.Equal(thread, Thread.CurrentThread.ManagedThreadId, "thread");
                    text += e.Text;
                    tokens += e.Tokens.Length;
                    kinds.Add(e.Kind);
                    return true;
                };
                long prompt = stream.TokenCount;
                stream.Generate(options);
                while (!demo.Session.Poll(TimeSpan.FromMilliseconds(2)).Finished)
                {
                }
                Check.Equal(Demo.Expected, text, "text");
                Check.Equal(stream.TokenCount - prompt, (long)tokens, "tokens");
                Check.Equal(EventKind.Done, kinds[kinds.Count - 1], "last event");
                Check.Equal(FinishReason.EndOfText, stream.Finish, "finish");
            }
        }

        private static void ReturningFalseCancels()
        {
            using (var demo = new Demo())
            using (Stream stream = demo.Ask())
            {
                int events = 0;
                GenerateOptions options = Demo.Endless();
                options.OnEvent = e => ++events < 3;
                stream.Generate(options);
                Check.That(demo.Session.Poll(TimeSpan.FromSeconds(30)).Finished, "the poll ends");
                Check.That(events < 10, "soon: " + events + " events");
                Check.Equal(FinishReason.Cancelled, stream.Finish, "finish");
            }
        }

        private static void EventCallbackThrows()
        {
            using (var demo = new Demo(new SessionOptions { MaxStreams = 2 }))
            using (Stream stream = demo.Ask())
            {
                long prompt = stream.TokenCount;
                var mine = new Mine("thrown in a callback 🤖");
                foreach (Action drive in new Action[]
                {
                    () => { while (!demo.Session.Poll(TimeSpan.FromMilliseconds(1)).Finished) { } },
                    () => { while (demo.Session.Wait(TimeSpan.FromSeconds(9)) != WaitResult.Event) { } },
                })
                {
                    int events = 0;
                    GenerateOptions options = Demo.Endless();
                    options.OnEvent = e =>
                    {
                        if (e.Kind == EventKind.Text && ++events == 2) throw mine;
                        return true;
                    };
                    stream.Generate(options);
                    Mine caught = Check.Throws<Mine>(() => { for (int i = 0; i < 10000; ++i) drive(); },
                        "poll or wait");
                    Check.That(ReferenceEquals(mine, caught), "it is the same object");
                    Check.Contains("CallbackTests", caught.StackTrace, "stack trace to where it was thrown");
                    while (!demo.Session.Poll(TimeSpan.FromMilliseconds(1)).Finished)
                    {
                    }
                    Check.Equal(FinishReason.Cancelled, stream.Finish, "finish");
                    stream.Rewind(prompt);
                    Check.Equal(Demo.Expected, Demo.Text(stream), "the session stays usable");
                    stream.Rewind(prompt);
                }
            }
        }

        private static void SeveralThrow()
        {
            using (var demo = new Demo(new SessionOptions { MaxStreams = 2 }))
            using (Stream one = demo.Ask(), two = demo.Ask())
            {
                foreach (Stream stream in new[] { one, two })
                {
                    GenerateOptions options = Demo.Greedy();
                    Stream mine = stream;
                    options.OnEvent = e => { throw new Mine(ReferenceEquals(mine, one) ? "one" : "two"); };
                    stream.Generate(options);
                }
                int seen = 0;
                for (int polls = 0; polls < 1000 && seen < 2; ++polls)
                {
                    try
                    {
                        demo.Session.Poll(Timeout.InfiniteTimeSpan);
                    }
                    catch (Mine)
                    {
                        ++seen;
                    }
                    catch (AggregateException e)
                    {
                        foreach (Exception inner in e.InnerExceptions)
                        {
                            Check.That(inner is Mine, "inner exception");
                            ++seen;
                        }
                    }
                }
                Check.That(seen >= 2, "both came out: " + seen);
            }
        }

        private static void ProgressCallbackThrows()
        {
            using (var runtime = new Runtime())
            {
                var mine = new Mine("progress");
                var options = new ModelOptions { Progress = p => { throw mine; } };
                Mine caught = Check.Throws<Mine>(() => runtime.OpenModel(Demo.ModelPath, options), "open");
                Check.That(ReferenceEquals(mine, caught), "it is the same object");
                options.Lazy = true;
                using (Model lazy = runtime.OpenModel(Demo.ModelPath, options))
                    Check.Throws<Mine>(() => lazy.Poll(Timeout.InfiniteTimeSpan), "poll");
            }
        }

        private static void LogCallbackThrows()
        {
            int lines = 0;
            using (var demo = new Demo(null, new RuntimeOptions
            {
                LogLevel = LogLevel.Debug, Log = m => { Interlocked.Increment(ref lines); throw new Mine("log"); },
            }))
            using (Stream stream = demo.Ask())
            {
                Check.That(lines > 0, "there were lines");
                Check.Equal(Demo.Expected, Demo.Text(stream), "answer");
            }
        }

        private static void LogLines()
        {
            var lines = new List<LogMessage>();
            var options = new RuntimeOptions
            {
                LogLevel = LogLevel.Debug,
                BackendPath = "/no such folder 🤖",
                Log = m => { lock (lines) lines.Add(m); },
            };
            using (new Demo(null, options))
            {
                Check.That(lines.Count > 0, "there are lines");
                foreach (LogMessage line in lines)
                {
                    Check.That(line.Level >= LogLevel.Error && line.Level <= LogLevel.Debug, "level");
                    Check.That(line.Component.Length > 0 && line.Text.Length > 0 && line.Text.IndexOf('\n') < 0,
                        "one line: " + line.Text);
                }
            }
        }

        private static void CallsInsideCallbacks()
        {
            using (var demo = new Demo(new SessionOptions { MaxStreams = 2 }))
            using (Stream stream = demo.Ask(), other = demo.Ask())
            {
                int busy = 0;
                GenerateOptions options = Demo.Greedy();
                options.OnEvent = e =>
                {
                    if (e.Kind != EventKind.Text) return true;
                    Check.That(stream.TokenCount > 0 && demo.Session.Stats.CacheTokensTotal > 0, "shared calls work");
                    Check.That(demo.Model.Tokenize("go").Length > 0, "text functions work");
                    other.Cancel();
                    foreach (Action alone in new Action[]
                    {
                        () => other.Append("more"), () => demo.Session.Poll(TimeSpan.Zero),
                        () => demo.Session.CreateStream(), () => other.Fork(),
                    })
                    {
                        Check.Throws<DsoptBusyException>(alone, "a call that must be alone");
                        ++busy;
                    }
                    return true;
                };
                stream.Generate(options);
                while (!demo.Session.Poll(TimeSpan.FromMilliseconds(5)).Finished)
                {
                }
                Check.That(busy > 0, "there was a callback");
                Check.Equal(FinishReason.EndOfText, stream.Finish, "finish");
            }
        }

        private static void DisposeInside()
        {
            for (int first = 0; first < 4; ++first)
            {
                var demo = new Demo();
                Stream stream = demo.Ask();
                IDisposable[] all = { stream, demo.Session, demo.Model, demo.Runtime };
                int events = 0;
                GenerateOptions options = Demo.Endless();
                options.OnEvent = e =>
                {
                    ++events;
                    for (int i = 0; i < all.Length; ++i) all[(first + i) % all.Length].Dispose();
                    LifetimeTests.Collect();
                    Check.That(e.Kind == EventKind.Text, "the event is still whole: " + e.Text);
                    return true;
                };
                stream.Generate(options);
                demo.Session.Poll(Timeout.InfiniteTimeSpan);
                Check.Equal(1, events, "events");
                Check.Throws<ObjectDisposedException>(() => demo.Session.Poll(TimeSpan.Zero), "a poll afterwards");
            }
            var runtime = new Runtime();
            var loading = new ModelOptions { Progress = p => { runtime.Dispose(); return true; } };
            using (Model model = runtime.OpenModel(Demo.ModelPath, loading))
                Check.That(model.Info.Loaded, "a model outlives its runtime");
        }

        private static void CallbackLifetime()
        {
            using (var demo = new Demo())
            {
                var text = new string[1];
                WeakReference receiver = GenerateAndForget(demo, text);
                while (!demo.Session.Poll(TimeSpan.FromMilliseconds(1)).Finished) LifetimeTests.Collect();
                Check.Equal(Demo.Expected, text[0], "text of a stream that nobody holds");
                for (int i = 0; i < 20 && receiver.IsAlive; ++i)
                {
                    Scrub(64);
                    LifetimeTests.Collect();
                }
                Check.That(!receiver.IsAlive, "the stream is collected after its end");
            }
        }

        // Nothing of it stays on the caller's stack, which the collector scans conservatively.
        [MethodImpl(MethodImplOptions.NoInlining)]
        private static WeakReference GenerateAndForget(Demo demo, string[] text)
        {
            WeakReference receiver = null;
            var thread = new Thread(() =>
            {
                Stream stream = demo.Ask();
                GenerateOptions options = Demo.Greedy();
                options.OnEvent = e => { text[0] += e.Text; return true; };
                stream.Generate(options);
                receiver = new WeakReference(stream);
            });
            thread.Start();
            thread.Join();
            return receiver;
        }

        [MethodImpl(MethodImplOptions.NoInlining)]
        private static int Scrub(int depth)
        {
            return depth == 0 ? 0 : 1 + Scrub(depth - 1);
        }
    }
}
