// StateTests.cs - scenarios 5 (fork) and 6 (save and load).
using System;

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
