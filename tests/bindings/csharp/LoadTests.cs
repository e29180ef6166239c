// LoadTests.cs - scenarios 1 (load) and 7 (two models).
using System;
using System.Collections.Generic;
using System.IO;
using System.Threading;
using System.Threading.Tasks;

namespace Dsopt.Tests
{
    public static class LoadTests
    {
        public static void Run(Runner runner)
        {
            runner.Test("a model opens from a path, from bytes and from a System.IO.Stream, and answers the same",
                OpensFromEverywhere);
            runner.Test("information and metadata of a model are right", Information);
            runner.Test("a lazy load polled in slices ends complete, with progress growing to 1", LazyLoad);
            runner.Test("a progress callback that returns false cancels the loading", ProgressCancels);
            runner.Test("a cancellation token cancels the loading, lazy or not", TokenCancels);
            runner.Test("opening asynchronously gives a model, and the exception of a bad path", OpensAsynchronously);
            runner.Test("what a source stream throws comes out of the open, and the stream is closed once",
                SourceThrows);
            runner.Test("a source stream that ends early is an EndOfStreamException", SourceEndsEarly);
            runner.Test("two models in two runtimes and in one generate in turn, each with its own text", TwoModels);
        }

        private static void OpensFromEverywhere()
        {
            using (var runtime = new Runtime())
            {
                var source = new CountingStream(Demo.ModelBytes());
                var mapped = new ModelOptions { MemoryMap = true, Verify = true, Device = "cpu" };
                var models = new List<Func<Model>>
                {
                    () => runtime.OpenModel(Demo.ModelPath),
                    () => runtime.OpenModel(Demo.ModelBytes()),
                    () => runtime.OpenModel(source),
                    () => runtime.OpenModel(Demo.ModelPath, mapped),
                };
                foreach (Func<Model> open in models)
                {
                    using (Model model = open())
                    using (Session session = model.CreateSession())
                    using (Stream stream = session.CreateStream())
                    {
                        stream.AppendChat(new ChatMessage("user", Demo.Command));
                        Check.Equal(Demo.Expected, Demo.Text(stream), "answer");
                    }
                }
                Check.Equal(1, source.Closed, "closes of the source stream");
                var kept = new CountingStream(Demo.ModelBytes());
                runtime.OpenModel(kept, null, leaveOpen: true).Dispose();
                Check.Equal(0, kept.Closed, "closes of a stream that is left open");
            }
        }

        private static void Information()
        {
            using (var demo = new Demo())
            {
                ModelInfo info = demo.Model.Info;
                Check.Equal("deepseek_v2", info.Architecture, "architecture");
                Check.Equal("cpu", info.Device, "device");
                Check.Equal(1280, info.VocabSize, "vocabulary");
                Check.Equal(1024, info.ContextLength, "context");
                Check.Equal(5, info.LayerCount, "layers");
                Check.Equal(4820352L, info.ParameterCount, "parameters");
                Check.That(info.WeightBytes >= 2 * info.ParameterCount, "weights take two bytes each");
                Check.That(info.CacheBytesPerToken > 0, "a token takes cache");
                Check.Equal(0, info.BosToken, "begin");
                Check.Equal(1, info.EosToken, "end");
                Check.Equal(2, info.PadToken, "padding");
                Check.That(info.Loaded, "the weights are complete");
                Check.Equal("MIT", demo.Model.GetMetadata("license"), "license");
                Check.Equal(null, demo.Model.GetMetadata("no such key"), "a key that is not there");
                Check.Equal("cpu", demo.Runtime.Devices[0].Id, "first device");
                Check.That(demo.Runtime.Devices[0].MemoryTotal > 0, "the device has memory");
                Check.Contains("backend cpu", demo.Runtime.Report, "report");
                Check.Equal(new Version(1, 0, 0), Runtime.NativeVersion, "version");
                Check.Contains("dsopt", Runtime.BuildInfo, "build information");
            }
        }

        private static void LazyLoad()
        {
            using (var runtime = new Runtime())
            {
                byte[] bytes = Demo.ModelBytes();
                var opens = new List<Func<ModelOptions, Model>>
                {
                    options => runtime.OpenModel(Demo.ModelPath, options),
                    options => runtime.OpenModel(bytes, options),
                    options => runtime.OpenModel(new MemoryStream(bytes), options),
                };
                foreach (Func<ModelOptions, Model> open in opens)
                {
                    using (Model model = open(new ModelOptions { Lazy = true }))
                    {
                        Check.That(!model.Info.Loaded, "nothing is loaded at first");
                        float before = model.Progress;
                        int slices = 0;
                        while (!model.Poll(TimeSpan.FromMilliseconds(1)))
                        {
                            Check.That(model.Progress >= before, "progress grows");
                            before = model.Progress;
                            ++slices;
                            GC.Collect(); // moves what is not pinned
                        }
                        Check.That(slices > 1, "it took slices");
                        Check.Equal(1f, model.Progress, "progress at the end");
                        Check.That(model.Info.Loaded, "the weights are complete");
                        using (Session session = model.CreateSession())
                        using (Stream stream = session.CreateStream())
                        {
                            stream.AppendChat(new ChatMessage("user", Demo.Command));
                            Check.Equal(Demo.Expected, Demo.Text(stream), "answer");
                        }
                    }
                }
            }
        }

        private static void ProgressCancels()
        {
            using (var runtime = new Runtime())
            {
                var seen = new List<float>();
                var options = new ModelOptions { Progress = p => { seen.Add(p); return false; } };
                var e = Check.Throws<DsoptCancelledException>(() => runtime.OpenModel(Demo.ModelPath, options), "open");
                Check.Equal(DsoptStatus.Cancelled, e.Code, "code");
                Check.Contains("cancelled", e.Message, "message");
                Check.Equal(1, seen.Count, "calls of the callback");
                seen.Clear();
                options.Progress = p => { seen.Add(p); return true; };
                runtime.OpenModel(Demo.ModelPath, options).Dispose();
                Check.That(seen.Count > 0 && seen[seen.Count - 1] <= 1, "progress was told");
            }
        }

        private static void TokenCancels()
        {
            using (var runtime = new Runtime())
            using (var cancellation = new CancellationTokenSource())
            {
                var options = new ModelOptions { Progress = p => { cancellation.Cancel(); return true; }, Lazy = true };
                using (Model lazy = runtime.OpenModel(Demo.ModelPath, options, cancellation.Token))
                {
                    var late = Check.Throws<DsoptCancelledException>(
                        () => { while (!lazy.Poll(TimeSpan.FromMilliseconds(1))) { } }, "poll");
                    Check.Equal(cancellation.Token, late.CancellationToken, "token");
                }
                var early = Check.Throws<DsoptCancelledException>(
                    () => runtime.OpenModel(Demo.ModelPath, null, cancellation.Token), "open");
                Check.That(early is OperationCanceledException, "hosts know it as a cancellation");
                using (Model lazy = runtime.OpenModel(Demo.ModelPath, new ModelOptions { Lazy = true }))
                {
                    lazy.Cancel();
                    Check.Throws<DsoptCancelledException>(() => lazy.Poll(Timeout.InfiniteTimeSpan),
                        "poll after Cancel");
                }
            }
        }

        private static void OpensAsynchronously()
        {
            using (var runtime = new Runtime())
            {
                using (Model model = runtime.OpenModelAsync(Demo.ModelPath).Result)
                    Check.That(model.Info.Loaded, "it is loaded");
                Task<Model> bad = runtime.OpenModelAsync("no/such/file.dsopt");
                Check.Throws<DsoptNotFoundException>(() => bad.GetAwaiter().GetResult(), "a path that is not there");
            }
        }

        private static void SourceThrows()
        {
            using (var runtime = new Runtime())
            {
                var source = new CountingStream(Demo.ModelBytes()) { FailAt = 3 };
                var e = Check.Throws<InvalidOperationException>(() => runtime.OpenModel(source), "open");
                Check.Equal("read 3", e.Message, "message");
                Check.Equal(1, source.Closed, "closes");
                source = new CountingStream(Demo.ModelBytes()) { FailAt = 3 };
                using (Model lazy = runtime.OpenModel(source, new ModelOptions { Lazy = true }))
                {
                    source.FailAt = source.Reads + 1;
                    Check.Throws<InvalidOperationException>(() => lazy.Poll(Timeout.InfiniteTimeSpan), "poll");
                }
                Check.Equal(1, source.Closed, "closes after a lazy load");
                var pipe = new CountingStream(new byte[9]) { Seekable = false };
                Check.Throws<ArgumentException>(() => runtime.OpenModel(pipe), "a stream that cannot seek");
            }
        }

        private static void SourceEndsEarly()
        {
            using (var runtime = new Runtime())
            {
                byte[] bytes = Demo.ModelBytes();
                var source = new CountingStream(bytes) { Pretended = bytes.Length };
                source.SetLength(bytes.Length / 2);
                Check.Throws<EndOfStreamException>(() => runtime.OpenModel(source), "open");
            }
        }

        private static void TwoModels()
        {
            using (var first = new Demo())
            using (var second = new Demo())
            using (Model third = second.Runtime.OpenModel(Demo.ModelPath))
            using (Session session = third.CreateSession())
            {
                string[] commands = { Demo.Command, "open the window", "pick up the red ball" };
                string[] alone = Array.ConvertAll(commands, command =>
                {
                    using (Stream stream = first.Ask(command)) return Demo.Text(stream);
                });
                Check.That(alone[0] != alone[1] && alone[1] != alone[2], "each command has its own answer");
                Session[] sessions = { first.Session, second.Session, session };
                Stream[] streams = Array.ConvertAll(sessions, s => s.CreateStream());
                var texts = new string[3];
                for (int i = 0; i < 3; ++i)
                {
                    streams[i].AppendChat(new ChatMessage("user", commands[i]));
                    streams[i].Generate(Demo.Greedy());
                }
                for (int active = 3; active > 0;)
                {
                    active = 0;
                    for (int i = 0; i < 3; ++i)
                    {
                        if (!sessions[i].Poll(TimeSpan.FromMilliseconds(1)).Finished) ++active;
                        StreamEvent e;
                        while (streams[i].TryRead(out e)) texts[i] += e.Text;
                    }
                }
                Check.Same(alone, texts, "answers in turn");
            }
        }

        // A source that counts, and fails when it is told to.
        private sealed class CountingStream : MemoryStream
        {
            public int Reads, Closed, FailAt;
            public bool Seekable = true;
            public long Pretended;

            public CountingStream(byte[] bytes)
            {
                Write(bytes, 0, bytes.Length);
            }

            public override bool CanSeek
            {
                get { return Seekable; }
            }

            public override long Length
            {
                get { return Pretended > 0 ? Pretended : base.Length; }
            }

            public override int Read(byte[] buffer, int offset, int count)
            {
                if (++Reads == FailAt) throw new InvalidOperationException("read " + Reads);
                return base.Read(buffer, offset, Math.Min(count, 100000)); // short reads are allowed
            }

            protected override void Dispose(bool disposing)
            {
                ++Closed;
                base.Dispose(disposing);
            }
        }
    }
}
