// GenerateOptions.cs - how a stream goes on: length, stops, sampling, callbacks.
using System;
using System.Collections.Generic;
using Dsopt.Raw;

namespace Dsopt
{
    /// <summary>How tokens are drawn. Applied in this order: bans and biases, penalties, temperature, top k, top n
    /// sigma, typical p, top p, min p, draw.</summary>
    /// <remarks>The same seed gives the same tokens whatever else the session does, after fork, save and
    /// load.</remarks>
    public sealed class Sampling
    {
        /// <summary>0: greedy, the lowest id wins a tie.</summary>
        public float Temperature { get; set; }

        /// <summary>Only the k most probable tokens; 0: off.</summary>
        public int TopK { get; set; }

        /// <summary>Only the most probable tokens that make up p together; 0: off.</summary>
        public float TopP { get; set; }

        /// <summary>Only tokens at least p times as probable as the best; 0: off.</summary>
        public float MinP { get; set; }

        /// <summary>Locally typical sampling; 0: off.</summary>
        public float TypicalP { get; set; }

        /// <summary>Only tokens within n standard deviations of the best logit; 0: off.</summary>
        public float TopNSigma { get; set; }

        /// <summary>Divides the logits of seen tokens; 0 or 1: off.</summary>
        public float RepeatPenalty { get; set; }

        /// <summary>Subtracted once from the logits of seen tokens; 0: off.</summary>
        public float PresencePenalty { get; set; }

        /// <summary>Subtracted from the logits of seen tokens, as often as they were seen; 0: off.</summary>
        public float FrequencyPenalty { get; set; }

        /// <summary>How many of the last tokens the penalties look at, at most 1024; 0: 64.</summary>
        public int PenaltyWindow { get; set; }

        /// <summary>Start of the random numbers; 0: from the operating system.</summary>
        public ulong Seed { get; set; }

        internal dsopt_sampling ToRaw()
        {
            Require.NotNegative(TopK, "options.Sampling.TopK");
            Require.NotNegative(PenaltyWindow, "options.Sampling.PenaltyWindow");
            var raw = new dsopt_sampling();
            raw.temperature = Temperature;
            raw.top_k = (uint)TopK;
            raw.top_p = TopP;
            raw.min_p = MinP;
            raw.typical_p = TypicalP;
            raw.top_n_sigma = TopNSigma;
            raw.repeat_penalty = RepeatPenalty;
            raw.presence_penalty = PresencePenalty;
            raw.frequency_penalty = FrequencyPenalty;
            raw.penalty_window = (uint)PenaltyWindow;
            raw.seed = Seed;
            return raw;
        }
    }

    /// <summary>How a stream goes on. Every default is the library's own.</summary>
    public sealed class GenerateOptions
    {
        /// <summary>Makes default options.</summary>
        public GenerateOptions()
        {
            Stop = new List<string>();
            StopTokens = new List<int>();
            LogitBias = new Dictionary<int, float>();
        }

        /// <summary>At most so many tokens; 0: until an end token, the context length or the end of the
        /// cache.</summary>
        public int MaxTokens { get; set; }

        /// <summary>How tokens are drawn; null: as the model file says.</summary>
        public Sampling Sampling { get; set; }

        /// <summary>Texts that end the generation and are not part of it; at most 64 of at most 4096 bytes.</summary>
        public IList<string> Stop { get; private set; }

        /// <summary>Tokens that end the generation, besides the model's own.</summary>
        public IList<int> StopTokens { get; private set; }

        /// <summary>Added to the logits of tokens; <see cref="float.NegativeInfinity"/> bans one.</summary>
        public IDictionary<int, float> LogitBias { get; private set; }

        /// <summary>Larger goes first; equal ones share the batch.</summary>
        public int Priority { get; set; }

        /// <summary>Bring all appended tokens into the cache and generate nothing.</summary>
        public bool PrefillOnly { get; set; }

        /// <summary>Also calculate the probability of each appended token: see
        /// <see cref="Stream.GetLogProbabilities"/>.</summary>
        public bool Score { get; set; }

        /// <summary>The model's end tokens do not end the generation.</summary>
        public bool IgnoreEndOfText { get; set; }

        /// <summary>Report the logarithm of the probability of each token.</summary>
        public bool LogProbabilities { get; set; }

        /// <summary>Report the n most probable tokens, too; at most 20.</summary>
        public int TopLogProbabilities { get; set; }

        /// <summary>Receives the events inside <see cref="Session.Poll"/> and <see cref="Session.Wait"/>, on their
        /// thread; false cancels. What it throws cancels too, and comes out of Poll or Wait. Null: collect them with
        /// <see cref="Stream.TryRead"/> or a reader. The stream stays alive until the last event.</summary>
        public Func<StreamEvent, bool> OnEvent { get; set; }

        internal GenerateRequest ToRaw()
        {
            Require.NotNegative(MaxTokens, "options.MaxTokens");
            Require.NotNegative(TopLogProbabilities, "options.TopLogProbabilities");
            var raw = new GenerateRequest();
            try
            {
                raw.set_flags((PrefillOnly ? DsoptNative.DSOPT_GENERATE_PREFILL_ONLY : 0) |
                              (Score ? DsoptNative.DSOPT_GENERATE_SCORE : 0) |
                              (IgnoreEndOfText ? DsoptNative.DSOPT_GENERATE_IGNORE_EOS : 0));
                raw.set_max_tokens((uint)MaxTokens);
                raw.set_priority(Priority);
                raw.set_logprobs(LogProbabilities);
                raw.set_top_logprobs((uint)TopLogProbabilities);
                if (Sampling != null)
                {
                    using (dsopt_sampling sampling = Sampling.ToRaw()) raw.set_sampling(sampling);
                }
                foreach (string stop in Stop)
                {
                    byte[] utf8 = Utf8.Terminated(stop, "options.Stop");
                    Status.Check(raw.add_stop(utf8, (ulong)utf8.Length - 1));
                }
                foreach (int token in StopTokens) Status.Check(raw.add_stop_token(token));
                foreach (KeyValuePair<int, float> bias in LogitBias) Status.Check(raw.add_bias(bias.Key, bias.Value));
                return raw;
            }
            catch (Exception)
            {
                raw.Dispose();
                throw;
            }
        }
    }
}
