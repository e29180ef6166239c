// StreamEvent.cs - what a generation tells, piece by piece.
using System;
using Dsopt.Raw;

namespace Dsopt
{
    /// <summary>What an event says.</summary>
    public enum EventKind
    {
        /// <summary>New tokens, and the text that is certain by now; it may be empty.</summary>
        Text = dsopt_event_kind.DSOPT_EVENT_TEXT,
        /// <summary>The generation is over: see <see cref="StreamEvent.Finish"/>.</summary>
        Done = dsopt_event_kind.DSOPT_EVENT_DONE,
        /// <summary>The generation failed: see <see cref="StreamEvent.Error"/>.</summary>
        Error = dsopt_event_kind.DSOPT_EVENT_ERROR,
    }

    /// <summary>Why a generation ended.</summary>
    public enum FinishReason
    {
        /// <summary>It has not ended.</summary>
        None = dsopt_finish.DSOPT_FINISH_NONE,
        /// <summary>The model's end token, or one of <see cref="GenerateOptions.StopTokens"/>.</summary>
        EndOfText = dsopt_finish.DSOPT_FINISH_EOS,
        /// <summary>One of <see cref="GenerateOptions.Stop"/>.</summary>
        Stop = dsopt_finish.DSOPT_FINISH_STOP,
        /// <summary><see cref="GenerateOptions.MaxTokens"/>, the context length, or a prompt that was only
        /// read.</summary>
        Length = dsopt_finish.DSOPT_FINISH_LENGTH,
        /// <summary>It was cancelled.</summary>
        Cancelled = dsopt_finish.DSOPT_FINISH_CANCELLED,
        /// <summary>It failed.</summary>
        Error = dsopt_finish.DSOPT_FINISH_ERROR,
    }

    /// <summary>A piece of a generation.</summary>
    public sealed class StreamEvent
    {
        private static readonly int[] NoTokens = new int[0];
        private static readonly float[] NoNumbers = new float[0];

        // A copy of the raw event, which is reused.
        internal StreamEvent(NativeEvent raw)
        {
            Kind = (EventKind)raw.kind();
            Finish = (FinishReason)raw.finish();
            Text = "";
            var utf8 = new byte[Status.CheckLength(raw.text(null, 0))];
            if (utf8.Length > 0)
            {
                raw.text(utf8, (ulong)utf8.Length);
                Text = Utf8.Decode(utf8, utf8.Length);
            }
            Tokens = Copy(raw.tokens, NoTokens);
            LogProbabilities = raw.has_logprobs() ? Copy(raw.logprobs, NoNumbers) : NoNumbers;
            TopCount = (int)raw.top_count();
            TopTokens = TopCount > 0 ? Copy(raw.top_tokens, NoTokens) : NoTokens;
            TopLogProbabilities = TopCount > 0 ? Copy(raw.top_logprobs, NoNumbers) : NoNumbers;
        }

        /// <summary>What it says.</summary>
        public EventKind Kind { get; private set; }

        /// <summary>New text: whole characters. Bytes of the model that are not UTF-8 appear as U+FFFD.</summary>
        public string Text { get; private set; }

        /// <summary>Tokens sampled since the event before.</summary>
        public int[] Tokens { get; private set; }

        /// <summary>Why the generation ended, for <see cref="EventKind.Done"/>.</summary>
        public FinishReason Finish { get; private set; }

        /// <summary>Why it failed, for <see cref="EventKind.Error"/>; else null.</summary>
        public Exception Error { get; internal set; }

        /// <summary>Logarithm of the probability of each of <see cref="Tokens"/>; empty unless it was asked
        /// for.</summary>
        public float[] LogProbabilities { get; private set; }

        /// <summary>How many of the most probable tokens are given for each of <see cref="Tokens"/>.</summary>
        public int TopCount { get; private set; }

        /// <summary>For each of <see cref="Tokens"/> the <see cref="TopCount"/> most probable, the best
        /// first.</summary>
        public int[] TopTokens { get; private set; }

        /// <summary>Logarithms of the probabilities of <see cref="TopTokens"/>.</summary>
        public float[] TopLogProbabilities { get; private set; }

        private static T[] Copy<T>(Func<T[], ulong, long> fill, T[] empty)
        {
            int count = Status.CheckLength(fill(null, 0));
            if (count == 0) return empty;
            var copy = new T[count];
            fill(copy, (ulong)count);
            return copy;
        }
    }
}
