// TextTests.cs - scenario 9: UTF-8 both ways, with characters above U+FFFF.
using System;
using System.Collections.Generic;
using System.IO;
using System.Text;

namespace Dsopt.Tests
{
    public static class TextTests
    {
        private const string Polyglot = "grüße 机器人 🤖👩‍🚀";

        public static void Run(Runner runner)
        {
            runner.Test("emoji survive tokenizing and detokenizing, as strings and as bytes", RoundTrip);
            runner.Test("emoji survive the chat template", ChatTemplate);
            runner.Test("emoji survive in file names and in error messages", FileNames);
            runner.Test("events hold whole characters", WholeCharacters);
            runner.Test("bytes that are not UTF-8 and unpaired surrogates are refused",
                InvalidText);
            runner.Test("control tokens are read only on demand", ControlTokens);
        }

        private static void RoundTrip()
        {
            using (var demo = new Demo())
            {
                int[] tokens = demo.Model.Tokenize(Polyglot);
                Check.Equal(Polyglot, demo.Model.Detokenize(tokens), "string");
                byte[] utf8 = Encoding.UTF8.GetBytes(Polyglot);
                Check.Same(utf8, demo.Model.DetokenizeBytes(tokens), "bytes");
                Check.Same(tokens, demo.Model.Tokenize(utf8), "tokens of bytes");
                Check.Equal("", demo.Model.Detokenize(demo.Model.Tokenize("")), "nothing");
                var text = new StringBuilder(); // longer than every buffer
                for (int i = 0; i < 2000; ++i) text.Append(Polyglot);
                Check.Equal(text.ToString(), demo.Model.Detokenize(demo.Model.Tokenize(text.ToString())),
                    "a long text");
                Check.Equal("a\0b", demo.Model.Detokenize(demo.Model.Tokenize("a\0b")), "NUL inside");
            }
        }

        private static void ChatTemplate()
        {
            using (var demo = new Demo())
            {
                string chat = demo.Model.FormatChat(new[] { new ChatMessage("user", Polyglot) });
                Check.Contains(Polyglot, chat, "chat");
                Check.That(chat.EndsWith("<|assistant|>"), "it ends with the assistant's turn");
                string closed = demo.Model.FormatChat(new[] { new ChatMessage("user", Polyglot) }, addPrompt: false);
                Check.That(!closed.EndsWith("<|assistant|>"), "without a prompt it does not");
            }
        }

        private static void FileNames()
        {
            string folder = Path.Combine(Path.GetTempPath(), "dsopt " + Polyglot + " " + Guid.NewGuid());
            Directory.CreateDirectory(folder);
            try
            {
                string path = Path.Combine(folder, "机器人 🤖.dsopt");
                File.WriteAllBytes(path, Demo.ModelBytes());
                using (var runtime = new Runtime())
                {
                    using (Model model = runtime.OpenModel(path)) Check.That(model.Info.Loaded, "it loads");
                    string missing = Path.Combine(folder, "👩‍🚀.dsopt");
                    var e = Check.Throws<DsoptNotFoundException>(() => runtime.OpenModel(missing),
                        "a file that is not there");
                    Check.Contains(missing, e.Message, "message");
                }
            }
            finally
            {
                Directory.Delete(folder, true);
            }
        }

        private static void WholeCharacters()
        {
            using (var demo = new Demo())
            using (Stream stream = demo.Ask())
            {
                // Biases make the tokens of an emoji certain, the first one most; a penalty drops each that was drawn.
                int[] tokens = demo.Model.Tokenize("🤖");
                Check.That(tokens.Length > 1, "it takes several tokens");
                GenerateOptions options = Demo.Greedy(tokens.Length);
                options.Sampling.PresencePenalty = 1e6f;
                for (int i = 0; i < tokens.Length; ++i) options.LogitBias[tokens[i]] = 1000 * (tokens.Length - i);
                var texts = new List<string>();
                options.OnEvent = e => { texts.Add(e.Text); return true; };
                stream.Generate(options);
                while (!demo.Session.Poll(TimeSpan.FromMilliseconds(1)).Finished)
                {
                }
                Check.Equal("🤖", string.Concat(texts), "text");
                var strict = new UTF8Encoding(false, true); // throws at half a surrogate pair
                foreach (string text in texts) strict.GetByteCount(text);
                Check.That(texts.Count > 1, "there were several events: " + texts.Count);
            }
        }

        private static void InvalidText()
        {
            using (var demo = new Demo())
            using (Stream stream = demo.Ask())
            {
                long before = stream.TokenCount;
                byte[] invalid = { 0x66, 0xC3, 0x28, 0xFF };
                foreach (Action use in new Action[] { () => demo.Model.Tokenize(invalid), () => stream.Append(invalid) })
                {
                    var refused = Check.Throws<DsoptInvalidArgumentException>(use, "bytes that are not UTF-8");
                    Check.Contains("invalid UTF-8 at byte 1", refused.Message, "message");
                }
                var half = Check.Throws<ArgumentException>(() => stream.Append("half a pair \uD83E!"), "half a pair");
                Check.Contains("index 12", half.Message, "message");
                Check.Throws<ArgumentException>(() => demo.Runtime.OpenModel("a\0b"), "NUL in a path");
                Check.Equal(before, stream.TokenCount, "tokens");

                // The model may end within a character: its bytes come as they are, its text with U+FFFD.
                int[] part = { demo.Model.Tokenize("🤖")[0] };
                Check.That(demo.Model.DetokenizeBytes(part).Length > 0, "there are bytes");
                Check.Contains("\uFFFD", demo.Model.Detokenize(part), "text");
            }
        }

        private static void ControlTokens()
        {
            using (var demo = new Demo())
            {
                Check.Equal(1, demo.Model.Tokenize("<|user|>", TokenizeFlags.ParseSpecial).Length,
                    "as a control token");
                int[] plain = demo.Model.Tokenize("<|user|>");
                Check.That(plain.Length > 1, "as text");
                int[] both = demo.Model.Tokenize("<|user|>go", TokenizeFlags.ParseSpecial);
                Check.Equal("<|user|>go", demo.Model.Detokenize(both), "with control tokens");
                Check.Equal("go", demo.Model.Detokenize(both, DetokenizeFlags.SkipSpecial), "without");
            }
        }
    }
}
