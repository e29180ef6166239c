// ErrorTests.cs - scenario 8 (error mapping) and wrong use.
using System;
using System.IO;
using System.Reflection;
using System.Threading;

namespace Dsopt.Tests
{
    public static class ErrorTests
    {
        public static void Run(Runner runner)
        {
            runner.Test("each failure is the exception of its code with the library's message", ErrorMapping);
            runner.Test("every status code has its class", EveryCode);
            runner.Test("a failed generation is an event, an exception of its reader and the stream's error",
                FailedGeneration);
            runner.Test("a limit of host memory is kept and is an out-of-memory exception", HostMemoryLimit);
            runner.Test("everything used after Dispose is an ObjectDisposedException", AfterDispose);
            runner.Test("null is an ArgumentNullException that names the argument", Null);
            runner.Test("huge and negative sizes are refused", Sizes);
        }

        private static void ErrorMapping()
        {
            using (var demo = new Demo())
            using (Stream stream = demo.Session.CreateStream())
            {
                var missing = Check.Throws<DsoptNotFoundException>(() => demo.Runtime.OpenModel("no/such/file.dsopt"),
                    "a missing file");
                Check.Equal(DsoptStatus.NotFound, missing.Code, "code");
                Check.Contains("no/such/file.dsopt", missing.Message, "message");
                Check.Throws<DsoptIOException>(() => demo.Runtime.OpenModel(Path.GetTempPath()), "a folder");
                var garbage = Check.Throws<DsoptCorruptException>(() => demo.Runtime.OpenModel(new byte[100000]),
                    "zeros");
                Check.That(garbage.Message.Length > 10, "it has a message");
                byte[] truncated = Demo.ModelBytes();
                Array.Resize(ref truncated, truncated.Length / 2);
                Check.Throws<DsoptCorruptException>(() => demo.Runtime.OpenModel(truncated), "half a file");
                Check.Throws<DsoptNotFoundException>(
                    () => demo.Runtime.OpenModel(Demo.ModelPath, new ModelOptions { Device = "cuda:77" }),
                    "a device that is not there");
                Check.Throws<DsoptDeviceMemoryException>(
                    () => demo.Runtime.OpenModel(Demo.ModelPath, new ModelOptions { MaxDeviceBytes = 1000 }),
                    "a cap in bytes");
                var state = Check.Throws<DsoptInvalidStateException>(() => stream.Generate(),
                    "a generation without tokens");
                Check.That(state.Message.Length > 10 && state.Message.IndexOf('\n') < 0, "one line: " + state.Message);
                stream.Append("go");
                stream.Generate(Demo.Greedy(1));
                Check.Throws<DsoptInvalidStateException>(() => stream.Append("on"), "appending while generating");
                Demo.Text(demo.Ask());
                var argument = Check.Throws<DsoptInvalidArgumentException>(
                    () => demo.Model.Detokenize(new[] { 5, 99999 }), "a token beyond the vocabulary");
                Check.Contains("99999", argument.Message, "message");
                Check.Throws<DsoptInvalidArgumentException>(
                    () => demo.Ask().Generate(new GenerateOptions { Sampling = new Sampling { TopP = float.NaN } }),
                    "not a number");
                var small = Check.Throws<DsoptException>(() => demo.Ask().GetLogits(new float[3]), "a small array");
                Check.Equal(DsoptStatus.BufferTooSmall, small.Code, "code");
                Check.Throws<DsoptNotFoundException>(() => demo.Runtime.LoadBackend("no/such/plugin.so"),
                    "a plugin that is not there");
                Check.That(demo.Runtime.MeasureRead("cpu", 1 << 20) > 1e6, "memory can be read");
                Check.Throws<DsoptNotFoundException>(() => demo.Runtime.MeasureRead("tpu"),
                    "a device of another world");
            }
        }

        private static void EveryCode()
        {
            MethodInfo make = typeof(DsoptStatus).Assembly.GetType("Dsopt.Status").GetMethod("Make");
            foreach (DsoptStatus code in Enum.GetValues(typeof(DsoptStatus)))
            {
                var arguments = new object[] { (int)code, "message of " + code, CancellationToken.None };
                var e = (Exception)make.Invoke(null, arguments);
                Check.Equal(code, ((IDsoptError)e).Code, "code");
                Check.Equal("message of " + code, ((IDsoptError)e).Message, "message");
                Check.Equal(code == DsoptStatus.Cancelled, e is OperationCanceledException,
                    "is a cancellation: " + code);
            }
        }

        private static void FailedGeneration()
        {
            // 64 tokens of cache: a generation beyond them fails between calls.
            using (var demo = new Demo(new SessionOptions { MaxTokens = 64, MaxStreams = 2 }))
            using (Stream one = demo.Ask(), two = demo.Ask())
            {
                one.Generate(Demo.Endless());
                StreamEvent e = null;
                demo.Session.Poll(Timeout.InfiniteTimeSpan);
                while (one.TryRead(out e) && e.Kind == EventKind.Text)
                {
                }
                if (e.Kind == EventKind.Done)
                {
                    Check.Equal(FinishReason.Length, e.Finish, "the end of the cache is a length");
                    Check.Equal(null, one.Error, "and no error");
                }
                two.Generate(Demo.Endless());
                Check.Throws<DsoptDeviceMemoryException>(() => string.Concat(two.Read()),
                    "a stream that finds no page");
                Check.That(two.Error is DsoptDeviceMemoryException, "error of the stream");
                Check.That(two.Error.Message.Length > 10, "with a message");
                Check.Equal(FinishReason.Error, two.Finish, "finish");
            }
        }

        private static void HostMemoryLimit()
        {
            using (var runtime = new Runtime(new RuntimeOptions { HostMemoryLimit = 1000000, CpuThreads = 1 }))
            {
                Check.Throws<DsoptOutOfMemoryException>(() => runtime.OpenModel(Demo.ModelPath),
                    "a model of 10 MB in 1 MB");
                Check.That(runtime.HostMemoryPeak <= 1000000, "the limit was kept");
            }
            using (var demo = new Demo(null, new RuntimeOptions { HostMemoryLimit = long.MaxValue, CpuThreads = 1 }))
            {
                Check.That(demo.Runtime.HostMemoryUsed >= demo.Model.Info.WeightBytes, "weights are counted");
                long used = demo.Runtime.HostMemoryUsed;
                using (Session session = demo.Model.CreateSession())
                    Check.That(demo.Runtime.HostMemoryUsed > used, "a session is counted");
                Check.Equal(used, demo.Runtime.HostMemoryUsed, "bytes after the session");
            }
        }

        private static void AfterDispose()
        {
            var demo = new Demo();
            Stream stream = demo.Ask();
            stream.Dispose();
            stream.Dispose();
            var uses = new Action[]
            {
                () => stream.Append("text"), () => stream.Append(new[] { 1 }), () => stream.Generate(),
                () => stream.Cancel(), () => stream.Read(), () => stream.Read(Demo.Greedy()),
                () => stream.ReadAsync(), () => stream.Fork(), () => stream.Save(), () => stream.Load(new byte[1]),
                () => stream.Rewind(0), () => stream.GetTokens(), () => stream.GetLogits(),
                () => stream.GetLogProbabilities(), () => { StreamEvent e; stream.TryRead(out e); },
                () => Use(stream.TokenCount), () => Use(stream.Error),
            };
            foreach (Action use in uses)
                Check.Equal("Stream", Check.Throws<ObjectDisposedException>(use, "stream").ObjectName, "name");
            demo.Session.Dispose();
            uses = new Action[]
            {
                () => demo.Session.Poll(TimeSpan.Zero), () => demo.Session.Wait(TimeSpan.Zero),
                () => demo.Session.Interrupt(),
                () => demo.Session.Trim(), () => demo.Session.CreateStream(), () => Use(demo.Session.Stats),
            };
            foreach (Action use in uses)
                Check.Equal("Session", Check.Throws<ObjectDisposedException>(use, "session").ObjectName, "name");
            demo.Model.Dispose();
            uses = new Action[]
            {
                () => demo.Model.CreateSession(), () => demo.Model.Tokenize("text"),
                () => demo.Model.Detokenize(new int[1]),
                () => demo.Model.FormatChat(new ChatMessage[0]), () => demo.Model.GetMetadata("license"),
                () => demo.Model.Cancel(),
                () => demo.Model.Poll(TimeSpan.Zero), () => Use(demo.Model.Info),
            };
            foreach (Action use in uses)
                Check.Equal("Model", Check.Throws<ObjectDisposedException>(use, "model").ObjectName, "name");
            demo.Runtime.Dispose();
            uses = new Action[]
            {
                () => demo.Runtime.OpenModel(Demo.ModelPath), () => demo.Runtime.OpenModel(new byte[1]),
                () => demo.Runtime.OpenModel(new MemoryStream()), () => demo.Runtime.OpenModelAsync(Demo.ModelPath),
                () => demo.Runtime.LoadBackend("x"), () => demo.Runtime.MeasureRead(), () => Use(demo.Runtime.Devices),
                () => Use(demo.Runtime.Report),
            };
            foreach (Action use in uses)
                Check.Equal("Runtime", Check.Throws<ObjectDisposedException>(use, "runtime").ObjectName, "name");
            demo.Dispose();
        }

        private static void Null()
        {
            using (var demo = new Demo())
            using (Stream stream = demo.Ask())
            {
                Action<string, Action> refused = (name, use) =>
                    Check.Equal(name, Check.Throws<ArgumentNullException>(use, name).ParamName, "parameter");
                refused("options", () => new Runtime(null));
                refused("path", () => demo.Runtime.OpenModel((string)null));
                refused("bytes", () => demo.Runtime.OpenModel((byte[])null));
                refused("source", () => demo.Runtime.OpenModel((System.IO.Stream)null));
                refused("path", () => demo.Runtime.OpenModelAsync(null));
                refused("path", () => demo.Runtime.LoadBackend(null));
                refused("text", () => demo.Model.Tokenize((string)null));
                refused("utf8", () => demo.Model.Tokenize((byte[])null));
                refused("tokens", () => demo.Model.Detokenize(null));
                refused("key", () => demo.Model.GetMetadata(null));
                refused("messages", () => demo.Model.FormatChat(null));
                refused("messages", () => demo.Model.FormatChat(new ChatMessage[1]));
                refused("role", () => new ChatMessage(null, ""));
                refused("content", () => new ChatMessage("user", null));
                refused("text", () => stream.Append((string)null));
                refused("utf8", () => stream.Append((byte[])null));
                refused("tokens", () => stream.Append((int[])null));
                refused("options", () => stream.Read(null));
                refused("options", () => stream.ReadAsync(null));
                refused("logits", () => stream.GetLogits(null));
                refused("saved", () => stream.Load(null));
                refused("options.Stop", () => stream.Generate(new GenerateOptions { Stop = { null } }));
            }
        }

        private static void Sizes()
        {
            using (var demo = new Demo())
            using (Stream stream = demo.Ask())
            {
                // 2^32 and more: what would be cut to 32 bits must not pass as something small.
                Check.Throws<DsoptInvalidArgumentException>(() => stream.Rewind((1L << 32) + 1),
                    "more tokens than there are");
                Check.Throws<DsoptInvalidArgumentException>(() => stream.Rewind(long.MaxValue), "far more");
                Check.Throws<ArgumentOutOfRangeException>(() => stream.Rewind(-1), "fewer than none");
                Check.Throws<ArgumentOutOfRangeException>(() => stream.GetTokens(-1), "before the first");
                Check.Equal(0, stream.GetTokens(int.MaxValue).Length, "tokens behind the last");
                Check.Throws<ArgumentOutOfRangeException>(
                    () => stream.Generate(new GenerateOptions { MaxTokens = -1 }), "negative length");
                Check.Throws<ArgumentOutOfRangeException>(
                    () => demo.Model.CreateSession(new SessionOptions { MaxTokens = -5 }), "negative cache");
                foreach (var options in new[]
                {
                    new SessionOptions { MaxTokens = int.MaxValue }, new SessionOptions { MaxStreams = int.MaxValue },
                })
                {
                    try
                    {
                        demo.Model.CreateSession(options).Dispose();
                        throw new CheckFailed("a session of " + int.MaxValue + " was made");
                    }
                    catch (DsoptException e)
                    {
                        Check.That(e is DsoptDeviceMemoryException || e is DsoptOutOfMemoryException ||
                                   e is DsoptInvalidArgumentException,
                                   "typed: " + e.Code + " " + e.Message);
                    }
                }
                Check.Throws<DsoptInvalidArgumentException>(
                    () => stream.Generate(new GenerateOptions { Stop = { new string('x', 5000) } }),
                    "a stop string of 5000 bytes");
                Check.Throws<DsoptInvalidArgumentException>(
                    () => stream.Generate(new GenerateOptions { TopLogProbabilities = int.MaxValue }),
                    "too many alternatives");
                Check.That(demo.Session.Poll(TimeSpan.MaxValue).Finished, "the longest budget");
                Check.Equal(WaitResult.Event, demo.Session.Wait(TimeSpan.MaxValue),
                    "the longest wait, with nothing to wait for");
                Check.Throws<DsoptIOException>(() => demo.Runtime.OpenModel(new string('x', 100000)),
                    "a path of 100000 characters");
            }
        }

        private static void Use(object value)
        {
            GC.KeepAlive(value);
        }
    }
}
