// StateTests.cs - scenarios 5 (fork), 6 (save and load) and 13 (memory of a session).
using System;
using System.Collections.Generic;

namespace Dsopt.Tests
{
    public static class StateTests
    {
        public static void Run(Runner runner)
        {
            runner.Test("a fork continues exactly like its parent, and neither changes the other", ForkContinues);
            runner.Test("a fork shares the cache of its parent", ForkShares);
            runner.Test("a stream that is rewound and asked again gives the same text", RewindRepeats);
            runner.Test("a saved stream continues in a new session with the text of the original", SaveAndLoad);
            runner.Test("a saved stream with a flipped byte is corrupt and leaves the stream as it was", FlippedByte);
            runner.Test("the plan of a session is what it then takes", PlanHolds);
            runner.Test("every type of cache is planned, taken and used", CacheTypes);
            runner.Test("a plan needs the weights", PlanNeedsWeights);
            runner.Test("a cap on the cache is kept or refused", CapHolds);
            runner.Test("the cache's limit may be lowered while a stream runs", LimitHolds);
        }

        private static void PlanHolds()
        {
            var options = new SessionOptions { MaxStreams = 2, MaxTokens = 512 };
            using (var demo = new Demo(options))
            {
                SessionMemory plan = demo.Model.PlanSession(options);
                Check.Equal(512, plan.Tokens, "tokens");
                Check.Equal(512, plan.WantedTokens, "wanted tokens");
                Check.Equal(0, plan.Tokens % plan.PageTokens, "whole pages");
                SessionStats stats = demo.Session.Stats;
                Check.Equal(plan.Tokens, stats.CacheTokensTotal, "tokens of the session");
                Check.Equal(plan.CacheBytes + plan.WorkspaceBytes, stats.DeviceBytes, "device bytes of the session");
            }
        }

        private static void CacheTypes()
        {
            var bytes = new Dictionary<DataType, long>();
            using (var demo = new Demo())
            {
                foreach (DataType type in Enum.GetValues(typeof(DataType)))
                {
                    var options = new SessionOptions { MaxTokens = 512, CacheType = type };
                    SessionMemory plan = demo.Model.PlanSession(options);
                    bytes[type] = plan.CacheBytes;
                    using (Session session = demo.Model.CreateSession(options))
                    using (Stream stream = session.CreateStream())
                    {
                        Check.Equal(plan.CacheBytes + plan.WorkspaceBytes, session.Stats.DeviceBytes, type + ": bytes");
                        stream.AppendChat(new ChatMessage("user", Demo.Command));
                        Check.Equal(Demo.Expected, Demo.Text(stream), type + ": text");
                    }
                }
                Check.Equal(bytes[DataType.BF16], bytes[DataType.Default], "bytes of the default type");
                Check.Equal(2 * bytes[DataType.BF16], bytes[DataType.F32], "bytes of F32");
                Check.That(bytes[DataType.F8] < 0.6 * bytes[DataType.BF16], "an fp8 cache is small");
                Check.That(bytes[DataType.I8] < 0.6 * bytes[DataType.BF16], "an int8 cache is small");
                Check.That(bytes[DataType.I4] < Math.Min(bytes[DataType.F8], bytes[DataType.I8]), "int4 is smaller");
                var wrong = new SessionOptions { CacheType = (DataType)77 };
                var refused =
                    Check.Throws<DsoptUnsupportedException>(() => demo.Model.PlanSession(wrong), "no such type");
                Check.That(refused.Message.Contains("kv_dtype is 77"), refused.Message);
            }
        }

        private static void PlanNeedsWeights()
        {
            using (var runtime = new Runtime(new RuntimeOptions { CpuThreads = 1 }))
            using (Model model = runtime.OpenModel(Demo.ModelPath, new ModelOptions { Lazy = true }))
            {
                Check.Throws<DsoptInvalidStateException>(() => model.PlanSession(), "before the weights are loaded");
                while (!model.Poll(TimeSpan.FromSeconds(1))) {}
                Check.Equal(model.Info.ContextLength, model.PlanSession().WantedTokens, "the context length");
                model.Dispose();
                Check.Throws<ObjectDisposedException>(() => model.PlanSession(), "after Dispose");
            }
        }

        private static void CapHolds()
        {
            using (var demo = new Demo())
            {
                var options = new SessionOptions { MaxTokens = 512 };
                options.MaxCacheBytes = demo.Model.PlanSession(options).CacheBytes / 2;
                SessionMemory plan = demo.Model.PlanSession(options);
                Check.Equal(256, plan.Tokens, "tokens that fit");
                Check.Equal(512, plan.WantedTokens, "tokens that were wanted");
                var refused = Check.Throws<DsoptDeviceMemoryException>(
                    () => demo.Model.CreateSession(options), "more than the cap");
                Check.That(refused.Message.Contains("max_cache_bytes " + options.MaxCacheBytes), refused.Message);
                var tiny = new SessionOptions { MaxCacheBytes = 1 };
                Check.Equal(0, demo.Model.PlanSession(tiny).Tokens, "tokens under a cap below one page");
                refused = Check.Throws<DsoptDeviceMemoryException>(
                    () => demo.Model.CreateSession(tiny), "a cap below one page");
                Check.That(refused.Message.Contains("for 1 pages"), refused.Message);
                var all = new SessionOptions { MaxTokens = 512, MaxHostCacheBytes = long.MaxValue };
                SessionMemory whole = demo.Model.PlanSession(all);
                all.MaxDeviceBytes =
                    (long)demo.Model.Info.WeightBytes + whole.WorkspaceBytes + whole.CacheBytes - 1;
                Check.Equal(448, demo.Model.PlanSession(all).Tokens, "tokens under a cap on all device memory");
                Check.Equal(0, demo.Model.PlanSession(all).HostTokens, "tokens beside the CPU's memory");
                refused = Check.Throws<DsoptDeviceMemoryException>(
                    () => demo.Model.CreateSession(all), "a cap on all device memory");
                Check.That(refused.Message.Contains("max_device_bytes " + all.MaxDeviceBytes), refused.Message);
                options.MaxTokens = 0;
                using (Session session = demo.Model.CreateSession(options))
                    Check.Equal(256, session.Stats.CacheTokensTotal, "tokens under the cap");
                options.MaxCacheBytes = -1;
                Check.Throws<ArgumentOutOfRangeException>(() => demo.Model.PlanSession(options), "a cap below zero");
            }
        }

        private static void LimitHolds()
        {
            var options = new SessionOptions { MaxTokens = 512 };
            using (var demo = new Demo(options))
            using (Stream stream = demo.Ask())
            {
                long whole = demo.Model.PlanSession(options).CacheBytes;
                using (var pieces = stream.Read(Demo.Endless()).GetEnumerator())
                {
                    Check.That(pieces.MoveNext(), "a first piece");
                    demo.Session.SetCacheLimit(whole / 4);
                    Check.Equal(128, demo.Session.Stats.CacheTokensTotal, "tokens under the limit");
                    var ended = Check.Throws<DsoptDeviceMemoryException>(
                        () =>
                        {
                            while (pieces.MoveNext()) {}
                        },
                        "the limit is reached");
                    Check.That(ended.Message.Contains("cache: no free page"), ended.Message);
                }
                demo.Session.SetCacheLimit(0);
                Check.Equal(512, demo.Session.Stats.CacheTokensTotal, "tokens without a limit");
                demo.Session.SetCacheLimit(2 * whole);
                Check.Equal(512, demo.Session.Stats.CacheTokensTotal, "a limit above what the session has");
                var more = Demo.Greedy(4);
                more.IgnoreEndOfText = true;
                Check.That(Demo.Text(stream, more).Length > 0, "and the stream goes on");
                Check.Throws<ArgumentOutOfRangeException>(() => demo.Session.SetCacheLimit(-1), "a limit below zero");
            }
        }

        private static void ForkContinues()
        {
            using (var demo = new Demo(new SessionOptions { MaxStreams = 2 }))
            using (Stream parent = demo.Ask())
            {
                Demo.Text(parent, Demo.Greedy(4));
                using (Stream fork = parent.Fork())
                {
                    Check.Same(parent.GetTokens(), fork.GetTokens(), "tokens");
                    int shared = (int)parent.TokenCount;
                    fork.Append(" something else entirely");
                    Demo.Text(fork, Demo.Greedy(6));
                    Check.Equal(shared, (int)parent.TokenCount, "tokens of the parent after the fork went on");
                    using (Stream second = parent.Fork())
                    {
                        string fromParent = Demo.Text(parent), fromFork = Demo.Text(second);
                        Check.Equal(fromParent, fromFork, "text");
                        Check.That(Demo.Expected.EndsWith(fromParent), "and it is the rest of the answer");
                    }
                }
            }
        }

        private static void ForkShares()
        {
            using (var demo = new Demo(new SessionOptions { MaxStreams = 4, MaxTokens = 640 }))
            using (Stream parent = demo.Session.CreateStream())
            {
                var tokens = new int[256];
                for (int i = 0; i < tokens.Length; ++i) tokens[i] = 300 + i;
                parent.Append(tokens);
                Demo.Text(parent, new GenerateOptions { PrefillOnly = true });
                int used = demo.Session.Stats.CacheTokensUsed;
                using (Stream one = parent.Fork(), two = parent.Fork(), three = parent.Fork())
                {
                    // Four copies of 256 tokens would not fit.
                    foreach (Stream fork in new[] { one, two, three })
                    {
                        Demo.Text(fork, Demo.Greedy(2));
                        Check.Equal(258L, fork.TokenCount, "tokens of a fork");
                    }
                    Check.That(demo.Session.Stats.CacheTokensUsed <= used + 3 * 2 * 64,
                        "each fork takes two pages of its own");
                }
            }
        }

        private static void RewindRepeats()
        {
            using (var demo = new Demo())
            using (Stream stream = demo.Ask())
            {
                long prompt = stream.TokenCount;
                for (int i = 0; i < 3; ++i)
                {
                    Check.Equal(Demo.Expected, Demo.Text(stream), "answer " + i);
                    stream.Rewind(prompt);
                    Check.Equal(prompt, stream.TokenCount, "tokens");
                }
                stream.Rewind(0);
                stream.AppendChat(new ChatMessage("user", Demo.Command));
                Check.Equal(Demo.Expected, Demo.Text(stream), "answer after starting over");
            }
        }

        private static void SaveAndLoad()
        {
            byte[] saved;
            string rest;
            using (var demo = new Demo())
            using (Stream stream = demo.Ask())
            {
                Demo.Text(stream, Demo.Greedy(4));
                saved = stream.Save();
                rest = Demo.Text(stream);
            }
            Check.That(saved.Length > 0 && Demo.Expected.EndsWith(rest), "there is something to compare");
            using (var demo = new Demo())
            using (Stream stream = demo.Session.CreateStream())
            {
                stream.Load(saved);
                Check.Equal(rest, Demo.Text(stream), "text in another runtime");
            }
        }

        private static void FlippedByte()
        {
            using (var demo = new Demo())
            using (Stream stream = demo.Ask())
            {
                Demo.Text(stream, Demo.Greedy(4));
                byte[] saved = stream.Save();
                int[] before = stream.GetTokens();
                for (int i = 0; i < saved.Length; i += Math.Max(1, saved.Length / 50))
                {
                    var broken = (byte[])saved.Clone();
                    broken[i] ^= 0x10;
                    try
                    {
                        stream.Load(broken);
                        throw new CheckFailed("byte " + i + " was flipped and the load succeeded");
                    }
                    catch (DsoptException e)
                    {
                        Check.That(e is DsoptCorruptException || e is DsoptUnsupportedException ||
                            e is DsoptVersionException,
                                   "byte " + i + ": " + e.Code);
                    }
                }
                Check.Throws<DsoptCorruptException>(() => stream.Load(new byte[10]), "a buffer that is too short");
                var payload = (byte[])saved.Clone();
                payload[saved.Length / 2] ^= 1;
                Check.Throws<DsoptCorruptException>(() => stream.Load(payload), "a flipped bit in the middle");
                Check.Same(before, stream.GetTokens(), "tokens");
                Check.That(Demo.Expected.EndsWith(Demo.Text(stream)), "the stream goes on");
            }
        }
    }
}
