// Demo.cs - the demo model and what it answers: the ground of all scenarios.
using System;
using System.IO;

namespace Dsopt.Tests
{
    // A runtime, a model and a session, disposed of together.
    public sealed class Demo : IDisposable
    {
        public const string Command = "go to the kitchen";
        public const string Expected = "[{\"action\":\"goto\",\"target\":\"kitchen\"}]";

        public static string ModelPath;

        public readonly Runtime Runtime;
        public readonly Model Model;
        public readonly Session Session;

        public Demo(SessionOptions options = null, RuntimeOptions runtime = null)
        {
            Runtime = new Runtime(runtime ?? new RuntimeOptions { CpuThreads = 1 });
            Model = Runtime.OpenModel(ModelPath);
            Session = Model.CreateSession(options);
        }

        public static byte[] ModelBytes()
        {
            return File.ReadAllBytes(ModelPath);
        }

        // A stream that has been asked.
        public Stream Ask(string command = Command)
        {
            Stream stream = Session.CreateStream();
            stream.AppendChat(new ChatMessage("user", command));
            return stream;
        }

        public static GenerateOptions Greedy(int maxTokens = 64)
        {
            return new GenerateOptions { MaxTokens = maxTokens, Sampling = new Sampling() };
        }

        // Goes on to the end of the context: about two seconds.
        public static GenerateOptions Endless()
        {
            return new GenerateOptions { IgnoreEndOfText = true, Sampling = new Sampling() };
        }

        public static string Text(Stream stream, GenerateOptions options = null)
        {
            return string.Concat(stream.Read(options ?? Greedy()));
        }

        public void Dispose()
        {
            Session.Dispose();
            Model.Dispose();
            Runtime.Dispose();
        }
    }
}
