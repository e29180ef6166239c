// Runner.cs - runs named checks one after the other and says in a sentence which one failed and how.
using System;
using System.Collections.Generic;
using System.Diagnostics;

namespace Dsopt.Tests
{
    public sealed class CheckFailed : Exception
    {
        public CheckFailed(string message) : base(message)
        {
        }
    }

    public static class Check
    {
        public static void That(bool condition, string what)
        {
            if (!condition) throw new CheckFailed("not so: " + what);
        }

        public static void Equal<T>(T expected, T found, string what)
        {
            if (!EqualityComparer<T>.Default.Equals(expected, found))
                throw new CheckFailed(what + ": found " + Show(found) + ", expected " + Show(expected));
        }

        public static void Same<T>(T[] expected, T[] found, string what)
        {
            Equal(expected.Length, found.Length, what + " (length)");
            for (int i = 0; i < expected.Length; ++i) Equal(expected[i], found[i], what + "[" + i + "]");
        }

        public static void Contains(string part, string whole, string what)
        {
            if (whole == null || whole.IndexOf(part, StringComparison.Ordinal) < 0)
                throw new CheckFailed(what + ": '" + part + "' is not in " + Show(whole));
        }

        // The exception, which is of exactly this class.
        public static T Throws<T>(Action action, string what) where T : Exception
        {
            try
            {
                action();
            }
            catch (Exception e)
            {
                if (e.GetType() == typeof(T)) return (T)e;
                throw new CheckFailed(what + ": threw " + e + ", expected " + typeof(T).Name);
            }
            throw new CheckFailed(what + ": threw nothing, expected " + typeof(T).Name);
        }

        private static string Show(object value)
        {
            return value == null ? "null" : "'" + value + "'";
        }
    }

    public sealed class Runner
    {
        private readonly string filter;
        private int run, failed;

        public Runner(string filter)
        {
            this.filter = filter;
        }

        public void Test(string sentence, Action body)
        {
            if (filter != null && sentence.IndexOf(filter, StringComparison.Ordinal) < 0) return;
            ++run;
            Stopwatch watch = Stopwatch.StartNew();
            try
            {
                body();
                Console.WriteLine("ok      " + sentence + " (" + watch.ElapsedMilliseconds + " ms)");
            }
            catch (Exception e)
            {
                ++failed;
                Console.WriteLine("FAILED  " + sentence + "\n        " +
                                  (e is CheckFailed ? e.Message + "\n" + e.StackTrace : e.ToString()));
            }
        }

        // Exit code of the program: a filter that matches nothing is a failure, too.
        public int Finish()
        {
            Console.WriteLine(run + " tests, " + failed + " failed");
            return failed == 0 && run > 0 ? 0 : 1;
        }
    }
}
