// LifetimeTests.cs - scenario 11 (release in any order under garbage-collector pressure) and the memory check.
using System;
using System.Collections.Generic;
using System.IO;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Threading;

namespace Dsopt.Tests
{
    public static class LifetimeTests
    {
        public static void Run(Runner runner)
        {
            runner.Test("objects are disposed of in every order while the collector runs", EveryOrder);
            runner.Test("objects that nobody disposes of are collected in any order, with a callback pending", Dropped);
            runner.Test("a child works after its parents are gone", ChildrenOutlive);
            runner.Test("an unfinished reader, a lazy model and a log are collected without harm", HalfDone);
        }

        public static void RunMemory(Runner runner, int cycles)
        {
            runner.Test("resident memory stays flat over " + cycles + " cycles of open, generate and dispose",
                () => Cycles(cycles));
        }

        // From one thread at a time: Mono 6.8 loses the wake-up of the others.
        public static void Collect()
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }

        private static void EveryOrder()
        {
            UnderPressure(() =>
            {
                foreach (int[] order in Orders(4))
                {
                    var demo = new Demo();
                    Stream stream = demo.Ask();
                    stream.Generate(Demo.Greedy());
                    demo.Session.Poll(TimeSpan.FromMilliseconds(1));
                    IDisposable[] all = { demo.Runtime, demo.Model, demo.Session, stream };
                    foreach (int i in order)
                    {
                        all[i].Dispose();
                        all[i].Dispose();
                    }
                }
            });
        }

        private static void Dropped()
        {
            UnderPressure(() =>
            {
                for (int i = 0; i < 20; ++i) MakeAndDrop(i);
            });
            Collect();
        }

        [MethodImpl(MethodImplOptions.NoInlining)]
        private static void MakeAndDrop(int i)
        {
            var demo = new Demo(null, new RuntimeOptions { CpuThreads = 1, Log = m => { }, LogLevel = LogLevel.Debug });
            Stream stream = demo.Ask();
            GenerateOptions options = Demo.Greedy();
            if (i % 2 == 0) options.OnEvent = e => true;
            stream.Generate(options);
            demo.Session.Poll(TimeSpan.FromMilliseconds(i % 4));
            if (i % 3 == 0) stream.Fork();
        }

        private static void ChildrenOutlive()
        {
            Stream stream;
            Session session;
            using (var runtime = new Runtime())
            using (Model model = runtime.OpenModel(Demo.ModelPath))
            {
                session = model.CreateSession();
                stream = session.CreateStream();
                stream.AppendChat(new ChatMessage("user", Demo.Command));
            }
            Collect();
            Check.Equal(Demo.Expected, Demo.Text(stream), "answer without runtime and model");
            session.Dispose();
            Check.That(stream.TokenCount > 0 && stream.GetTokens().Length > 0, "tokens without a session");
            stream.Dispose();
        }

        private static void HalfDone()
        {
            UnderPressure(() =>
            {
                for (int i = 0; i < 5; ++i)
                {
                    StartAndForget();
                    GC.Collect();
                }
            });
        }

        [MethodImpl(MethodImplOptions.NoInlining)]
        private static void StartAndForget()
        {
            var demo = new Demo();
            IEnumerator<string> pieces = demo.Ask().Read(Demo.Greedy()).GetEnumerator();
            Check.That(pieces.MoveNext(), "there is a piece");
            Model lazy = demo.Runtime.OpenModel(Demo.ModelBytes(),
                new ModelOptions { Lazy = true, Progress = p => true });
            lazy.Poll(TimeSpan.FromMilliseconds(1));
            Model streamed = demo.Runtime.OpenModel(File.OpenRead(Demo.ModelPath), new ModelOptions { Lazy = true });
            streamed.Poll(TimeSpan.FromMilliseconds(1));
        }

        // In the first half Mono compiles and its heaps take their sizes; the second half adds nothing.
        // A leak grows in every hundred cycles; the heaps of malloc and Mono may take a step once, in any of them.
        private static void Cycles(int cycles)
        {
            Check.That(cycles >= 300 && cycles % 100 == 0, "a multiple of 100 cycles, at least 300");
            long resident = 0, allocated = 0, leastResident = long.MaxValue, leastAllocated = long.MaxValue;
            for (int i = 0; i < 200000; ++i) GC.KeepAlive(new byte[100]); // the nursery becomes resident as a whole
            for (int i = 1; i <= cycles; ++i)
            {
                Cycle(i);
                if (i % 100 != 0) continue;
                Collect();
                long residentNow = Resident(), allocatedNow = (long)mallinfo2().InUse;
                if (i > 100)
                {
                    leastResident = Math.Min(leastResident, residentNow - resident);
                    leastAllocated = Math.Min(leastAllocated, allocatedNow - allocated);
                }
                resident = residentNow;
                allocated = allocatedNow;
                Console.WriteLine("        after " + i + " cycles: resident " + resident / 1024 +
                                  " KiB, native memory in use " + allocated / 1024 + " KiB");
            }
            Check.That(leastAllocated < 16 << 10, "some hundred cycles add less than 16 KiB of native memory");
            Check.That(leastResident < 1 << 20, "some hundred cycles add less than 1 MiB of resident memory");
        }

        // What malloc has given out, in all its arenas; freed memory that stays resident is not in it.
        [StructLayout(LayoutKind.Sequential)]
        private struct MallocInfo
        {
            public readonly UIntPtr Arena, FreeChunks, FastChunks, Mapped, MappedBytes, Unused, FastBytes;
            public readonly UIntPtr InUse, Free, Releasable;
        }

        [DllImport("libc.so.6")]
        private static extern MallocInfo mallinfo2();

        private static void Cycle(int i)
        {
            var runtime = new RuntimeOptions { CpuThreads = 2, Log = m => { }, LogLevel = LogLevel.Debug };
            using (var demo = new Demo(null, runtime))
            using (Stream stream = demo.Ask())
            {
                if (i % 2 == 0)
                {
                    Check.Equal(Demo.Expected, Demo.Text(stream), "answer");
                    return;
                }
                string text = "";
                GenerateOptions options = Demo.Greedy();
                options.OnEvent = e => { text += e.Text; return true; };
                stream.Generate(options);
                while (!demo.Session.Poll(TimeSpan.FromMilliseconds(5)).Finished)
                {
                }
                Check.Equal(Demo.Expected, text, "answer");
            }
        }

        private static long Resident()
        {
            foreach (string line in File.ReadAllLines("/proc/self/status"))
            {
                if (line.StartsWith("VmRSS:")) return long.Parse(line.Substring(6).Replace("kB", "").Trim()) * 1024;
            }
            throw new CheckFailed("/proc/self/status has no VmRSS");
        }

        // Collects all the time on another thread.
        private static void UnderPressure(Action body)
        {
            int stop = 0;
            var collector = new Thread(() =>
            {
                while (Thread.VolatileRead(ref stop) == 0)
                {
                    GC.KeepAlive(new byte[10000]);
                    Collect();
                }
            });
            collector.Start();
            try
            {
                body();
            }
            finally
            {
                Thread.VolatileWrite(ref stop, 1);
                collector.Join();
            }
        }

        // All orders of n things.
        private static IEnumerable<int[]> Orders(int n)
        {
            if (n == 0)
            {
                yield return new int[0];
                yield break;
            }
            foreach (int[] rest in Orders(n - 1))
            {
                for (int at = 0; at < n; ++at)
                {
                    var order = new List<int>(rest);
                    order.Insert(at, n - 1);
                    yield return order.ToArray();
                }
            }
        }
    }
}
