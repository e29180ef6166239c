// Chat.cs - a chat in a terminal window: streams the answer, Ctrl-C stops it, statistics at the end.
//   mono Chat.exe MODEL.dsopt [--once] [--endless] [--threads N] [--max-tokens N]
// --once forgets the conversation after each answer, for models that know single turns only, such as the robot model;
// --endless goes on where the model would end, which leaves time to press Ctrl-C.
// An empty line or the end of the input leaves. Needs Dsopt.dll.
using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Threading;
using Dsopt;

internal static class Chat
{
    private static CancellationTokenSource answer; // of the answer in progress

    private static int Main(string[] args)
    {
        Settings settings = Settings.Parse(args);
        if (settings == null)
        {
            Console.Error.WriteLine("usage: Chat.exe MODEL.dsopt [--once] [--endless] [--threads N] [--max-tokens N]");
            return 2;
        }
        Console.OutputEncoding = new System.Text.UTF8Encoding(false);
        Console.InputEncoding = new System.Text.UTF8Encoding(false);
        Console.CancelKeyPress += StopAnswer;
        try
        {
            using (var runtime = new Runtime(new RuntimeOptions { CpuThreads = settings.Threads }))
            using (Model model = runtime.OpenModel(settings.ModelPath))
            using (Session session = model.CreateSession())
            {
                Converse(model, session, settings);
                PrintStatistics(model, session);
            }
            return 0;
        }
        catch (DsoptException e)
        {
            Console.Error.WriteLine("chat: " + e.Code + ": " + e.Message);
            return 1;
        }
    }

    private static void Converse(Model model, Session session, Settings settings)
    {
        var conversation = new List<ChatMessage>();
        using (Dsopt.Stream stream = session.CreateStream())
        {
            for (;;)
            {
                Console.Write("you> ");
                string line = Console.ReadLine();
                if (string.IsNullOrEmpty(line)) return;
                if (settings.Once) conversation.Clear();
                conversation.Add(new ChatMessage("user", line));
                BecomePrompt(stream, model.Tokenize(model.FormatChat(conversation), TokenizeFlags.ParseSpecial));
                conversation.Add(new ChatMessage("assistant", Answer(stream, settings)));
            }
        }
    }

    // What the stream has read already stays in its cache; only the rest of the prompt is work.
    private static void BecomePrompt(Dsopt.Stream stream, int[] prompt)
    {
        int[] known = stream.GetTokens();
        int common = 0;
        while (common < known.Length && common < prompt.Length - 1 && known[common] == prompt[common]) ++common;
        stream.Rewind(common);
        var rest = new int[prompt.Length - common];
        Array.Copy(prompt, common, rest, 0, rest.Length);
        stream.Append(rest);
    }

    // Prints the answer as it comes; what there is of it, if the user stops it.
    private static string Answer(Dsopt.Stream stream, Settings settings)
    {
        string said = "";
        long prompt = stream.TokenCount;
        Stopwatch watch = Stopwatch.StartNew();
        var options = new GenerateOptions { MaxTokens = settings.MaxTokens, IgnoreEndOfText = settings.Endless };
        var stop = new CancellationTokenSource();
        answer = stop;
        Console.Write("model> ");
        try
        {
            foreach (string piece in stream.Read(options, stop.Token))
            {
                Console.Write(piece);
                Console.Out.Flush();
                said += piece;
            }
            Console.WriteLine();
        }
        catch (DsoptCancelledException)
        {
            Console.WriteLine(" [stopped]");
        }
        finally
        {
            answer = null;
        }
        Console.WriteLine("       (" + (stream.TokenCount - prompt) + " tokens in " + watch.ElapsedMilliseconds +
                          " ms, " + stream.Finish + ")");
        return said;
    }

    // Ctrl-C: stops the answer in progress; without one it ends the program as usual.
    private static void StopAnswer(object sender, ConsoleCancelEventArgs key)
    {
        CancellationTokenSource stop = answer;
        if (stop == null) return;
        key.Cancel = true;
        stop.Cancel();
    }

    private static void PrintStatistics(Model model, Session session)
    {
        SessionStats stats = session.Stats;
        Console.WriteLine();
        ModelInfo info = model.Info;
        Console.WriteLine(info.Architecture + " on " + info.Device + ", " + info.ParameterCount + " parameters, " +
                          info.WeightBytes / 1000000 + " MB of weights");
        Console.WriteLine("prompts:  " + Rate(stats.PrefillTokens, stats.PrefillTime));
        Console.WriteLine("answers:  " + Rate(stats.DecodeTokens, stats.DecodeTime));
        Console.WriteLine("memory:   " + (stats.HostBytes + stats.DeviceBytes) / 1000000 + " MB for " +
                          stats.CacheTokensTotal + " tokens of cache");
    }

    private static string Rate(long tokens, TimeSpan time)
    {
        double seconds = time.TotalSeconds;
        string rate = seconds > 0 ? ", " + (tokens / seconds).ToString("F0") + " per second" : "";
        return tokens + " tokens" + rate;
    }

    private sealed class Settings
    {
        public string ModelPath;
        public bool Once, Endless;
        public int Threads, MaxTokens = 512;

        // null: not what the program takes.
        public static Settings Parse(string[] args)
        {
            var settings = new Settings();
            for (int i = 0; i < args.Length; ++i)
            {
                string next = i + 1 < args.Length ? args[i + 1] : "";
                if (args[i] == "--once") settings.Once = true;
                else if (args[i] == "--endless") settings.Endless = true;
                else if (args[i] == "--threads" && int.TryParse(next, out settings.Threads)) ++i;
                else if (args[i] == "--max-tokens" && int.TryParse(next, out settings.MaxTokens)) ++i;
                else if (settings.ModelPath == null && !args[i].StartsWith("--")) settings.ModelPath = args[i];
                else return null;
            }
            return settings.ModelPath != null && settings.Threads >= 0 && settings.MaxTokens >= 0 ? settings : null;
        }
    }
}
