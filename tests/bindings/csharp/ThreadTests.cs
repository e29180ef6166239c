// ThreadTests.cs - scenario 12 (threads).
using System;
using System.Collections.Generic;
using System.Threading;

namespace Dsopt.Tests
{
    public static class ThreadTests
    {
        public static void Run(Runner runner)
        {
            runner.Test("a session per thread generates the same text in parallel", SessionPerThread);
            runner.Test("the second of two threads that poll one session is busy", SecondIsBusy);
            runner.Test("readers and appends of one session on several threads take turns", TakeTurns);
            runner.Test("disposing of everything while another thread polls is safe", DisposeWhilePolling);
            runner.Test("cancelling, interrupting and reading statistics from other threads is safe", AnyCalls);
        }

        private static void SessionPerThread()
        {
            using (var demo = new Demo(null, new RuntimeOptions { CpuThreads = 2 }))
            {
                Parallel(4, i =>
                {
                    for (int round = 0; round < 3; ++round)
                    {
                        using (Session session = demo.Model.CreateSession())
                        using (Stream stream = session.CreateStream())
                        {
                            stream.AppendChat(new ChatMessage("user", Demo.Command));
                            Check.Equal(Demo.Expected, Demo.Text(stream), "answer of thread " + i);
                        }
                    }
                });
            }
        }

        private static void SecondIsBusy()
        {
            using (var demo = new Demo(new SessionOptions { MaxStreams = 2 }))
            using (Stream stream = demo.Ask(), other = demo.Ask())
            using (var inside = new ManualResetEventSlim())
            using (var done = new ManualResetEventSlim())
            {
                GenerateOptions options = Demo.Greedy();
                options.OnEvent = e => { inside.Set(); done.Wait(); return true; };
                stream.Generate(options);
                var poller = new Thread(() =>
                {
                    while (!demo.Session.Poll(TimeSpan.FromMilliseconds(5)).Finished)
                    {
                    }
                });
                poller.Start();
                inside.Wait();
                try
                {
                    foreach (Action second in new Action[]
                    {
                        () => demo.Session.Poll(TimeSpan.Zero), () => demo.Session.Wait(TimeSpan.Zero),
                        () => demo.Session.Trim(), () => demo.Session.CreateStream(), () => other.Append("x"),
                        () => other.Append(new[] { 1 }), () => other.Generate(),
                        () => other.Fork(), () => other.Save(), () => other.Rewind(0), () => other.GetLogits(),
                        () => { StreamEvent e; other.TryRead(out e); }, () => string.Concat(other.Read()),
                    })
                    {
                        var e = Check.Throws<DsoptBusyException>(second, "a second thread");
                        Check.Contains("another call", e.Message, "message");
                    }
                    Check.That(other.TokenCount > 0 && demo.Session.Stats.CacheTokensTotal > 0, "shared calls work");
                }
                finally
                {
                    done.Set();
                    poller.Join();
                }
                Check.Equal(FinishReason.EndOfText, stream.Finish, "finish");
                Check.Equal(Demo.Expected, Demo.Text(other), "the other stream is as it was");
            }
        }

        private static void TakeTurns()
        {
            using (var demo = new Demo(new SessionOptions { MaxStreams = 4 }))
            {
                Parallel(4, i =>
                {
                    for (int round = 0; round < 3; ++round)
                    {
                        using (Stream stream = demo.Ask())
                        using (Stream fork = stream.Fork())
                        {
                            Check.Equal(Demo.Expected, Demo.Text(stream), "answer of thread " + i);
                            fork.Rewind(0);
                        }
                    }
                });
            }
        }

        private static void DisposeWhilePolling()
        {
            for (int round = 0; round < 12; ++round)
            {
                var demo = new Demo();
                Stream stream = demo.Ask();
                GenerateOptions options = Demo.Endless();
                if (round % 2 == 0) options.OnEvent = e => true;
                stream.Generate(options);
                Exception thrown = null;
                var poller = new Thread(() =>
                {
                    try
                    {
                        while (!demo.Session.Poll(TimeSpan.FromMilliseconds(1)).Finished)
                        {
                        }
                    }
                    catch (Exception e)
                    {
                        thrown = e;
                    }
                });
                poller.Start();
                Thread.Sleep(round);
                IDisposable[] all = { stream, demo.Model, demo.Runtime, demo.Session };
                for (int i = 0; i < all.Length; ++i) all[(i + round) % all.Length].Dispose();
                poller.Join();
                Check.That(thrown == null || thrown is ObjectDisposedException, "the poller ended quietly: " + thrown);
            }
        }

        private static void AnyCalls()
        {
            using (var demo = new Demo(new SessionOptions { MaxStreams = 2 }))
            {
                int stop = 0;
                Stream current = null;
                var threads = new List<Thread>
                {
                    new Thread(() =>
                    {
                        while (Thread.VolatileRead(ref stop) == 0)
                        {
                            demo.Session.Interrupt();
                            Thread.Sleep(1);
                        }
                    }),
                    new Thread(() => { while (Thread.VolatileRead(ref stop) == 0) GC.KeepAlive(demo.Session.Stats); }),
                    new Thread(() =>
                    {
                        while (Thread.VolatileRead(ref stop) == 0)
                        {
                            Stream stream = Interlocked.Exchange(ref current, null);
                            if (stream != null)
                            {
                                GC.KeepAlive(stream.GetTokens());
                                stream.Cancel();
                                stream.Dispose();
                            }
                            Thread.Sleep(2);
                        }
                    }),
                };
                foreach (Thread thread in threads) thread.Start();
                try
                {
                    for (int round = 0; round < 20; ++round)
                    {
                        Stream victim = demo.Ask();
                        victim.Generate(Demo.Endless());
                        current = victim;
                        using (Stream steady = demo.Ask()) Check.Equal(Demo.Expected, Demo.Text(steady), "answer");
                    }
                }
                finally
                {
                    Thread.VolatileWrite(ref stop, 1);
                    foreach (Thread thread in threads) thread.Join();
                }
            }
        }

        // Runs body(0) .. body(count - 1) at once; throws the first failure.
        private static void Parallel(int count, Action<int> body)
        {
            var failures = new List<Exception>();
            var threads = new List<Thread>();
            for (int i = 0; i < count; ++i)
            {
                int index = i;
                threads.Add(new Thread(() =>
                {
                    try
                    {
                        body(index);
                    }
                    catch (Exception e)
                    {
                        lock (failures) failures.Add(e);
                    }
                }));
            }
            foreach (Thread thread in threads) thread.Start();
            foreach (Thread thread in threads) thread.Join();
            if (failures.Count > 0) throw new AggregateException(failures);
        }
    }
}
