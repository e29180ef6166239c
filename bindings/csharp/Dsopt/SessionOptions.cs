// SessionOptions.cs - what a session is made with and what it tells.
using System;
using Dsopt.Raw;

namespace Dsopt
{
    /// <summary>Types of numbers.</summary>
    public enum DataType
    {
        /// <summary>The library's choice.</summary>
        Default = dsopt_dtype.DSOPT_DTYPE_DEFAULT,
        /// <summary>32-bit floating point.</summary>
        F32 = dsopt_dtype.DSOPT_F32,
        /// <summary>16-bit floating point with 8 bits of exponent.</summary>
        BF16 = dsopt_dtype.DSOPT_BF16,
        /// <summary>8-bit floating point with 4 bits of exponent, scaled: for the cache.</summary>
        F8 = dsopt_dtype.DSOPT_F8_E4M3,
        /// <summary>8-bit integers, scaled: for the cache.</summary>
        I8 = dsopt_dtype.DSOPT_I8,
        /// <summary>4-bit integers, scaled in groups: for the cache.</summary>
        I4 = dsopt_dtype.DSOPT_I4,
    }

    /// <summary>How a session calculates.</summary>
    public enum Precision
    {
        /// <summary>The device's best arithmetic.</summary>
        Fast = dsopt_precision.DSOPT_PRECISION_FAST,
        /// <summary>Activations, products and cache in 32-bit floating point.</summary>
        Reference = dsopt_precision.DSOPT_PRECISION_REFERENCE,
    }

    /// <summary>What a <see cref="Session"/> is made with. Every default is the library's own.</summary>
    public sealed class SessionOptions
    {
        /// <summary>Streams in one batch, at most 1024; 0: 1. More may generate; the others wait.</summary>
        public int MaxStreams { get; set; }

        /// <summary>Cache for so many tokens of all streams together; 0: the model's context length.</summary>
        public int MaxTokens { get; set; }

        /// <summary>Most prompt tokens in one batch; 0: the device's preference.</summary>
        public int PrefillChunk { get; set; }

        /// <summary>Longest device work that is submitted at once; zero: unlimited.</summary>
        public TimeSpan DeviceSlice { get; set; }

        /// <summary>Type of the cache.</summary>
        public DataType CacheType { get; set; }

        /// <summary>How it calculates.</summary>
        public Precision Precision { get; set; }

        /// <summary>Most device memory of the cache; 0: no cap. With <see cref="MaxTokens"/> 0 the session gets as many
        /// tokens as fit; a number that does not fit throws <see cref="DsoptDeviceMemoryException"/>.</summary>
        public long MaxCacheBytes { get; set; }

        /// <summary>Most device memory of the model's weights and the session together; 0: no cap. What it leaves for the
        /// cache counts as <see cref="MaxCacheBytes"/> does.</summary>
        public long MaxDeviceBytes { get; set; }

        /// <summary>What of the cache has no room on a GPU may lie in so much pinned host memory, where the GPU reads it,
        /// slower; 0: none may.</summary>
        public long MaxHostCacheBytes { get; set; }

        internal dsopt_session_options ToRaw()
        {
            Require.NotNegative(MaxStreams, "options.MaxStreams");
            Require.NotNegative(MaxTokens, "options.MaxTokens");
            Require.NotNegative(PrefillChunk, "options.PrefillChunk");
            Require.NotNegative(MaxCacheBytes, "options.MaxCacheBytes");
            Require.NotNegative(MaxDeviceBytes, "options.MaxDeviceBytes");
            Require.NotNegative(MaxHostCacheBytes, "options.MaxHostCacheBytes");
            var raw = new dsopt_session_options();
            raw.max_streams = (uint)MaxStreams;
            raw.max_tokens = (uint)MaxTokens;
            raw.prefill_chunk = (uint)PrefillChunk;
            raw.device_slice_us = (uint)Math.Min(Require.Microseconds(DeviceSlice), uint.MaxValue);
            raw.kv_dtype = (dsopt_dtype)CacheType;
            raw.precision = (dsopt_precision)Precision;
            raw.max_cache_bytes = (ulong)MaxCacheBytes;
            raw.max_device_bytes = (ulong)MaxDeviceBytes;
            raw.max_host_cache_bytes = (ulong)MaxHostCacheBytes;
            return raw;
        }
    }

    /// <summary>What a session takes, before it takes anything: see <see cref="Model.PlanSession"/>.</summary>
    public sealed class SessionMemory
    {
        internal SessionMemory(dsopt_session_memory raw)
        {
            PageTokens = (int)raw.page_tokens;
            WantedTokens = (int)raw.wanted_tokens;
            Tokens = (int)raw.tokens;
            WantedCacheBytes = (long)raw.wanted_cache_bytes;
            CacheBytes = (long)raw.cache_bytes;
            WorkspaceBytes = (long)raw.workspace_bytes;
            HostBytes = (long)raw.host_bytes;
            DeviceFreeBytes = (long)raw.device_free_bytes;
            HostCacheBytes = (long)raw.host_cache_bytes;
            HostTokens = (int)raw.host_tokens;
        }

        /// <summary>Tokens come in whole pages of so many.</summary>
        public int PageTokens { get; private set; }

        /// <summary><see cref="SessionOptions.MaxTokens"/> or, when that is 0, the model's context length.</summary>
        public int WantedTokens { get; private set; }

        /// <summary>Of those, what the caps have room for, on the device and on the host.</summary>
        public int Tokens { get; private set; }

        /// <summary>Cache of <see cref="WantedTokens"/>.</summary>
        public long WantedCacheBytes { get; private set; }

        /// <summary>Cache of <see cref="Tokens"/> without <see cref="HostTokens"/>, on the device.</summary>
        public long CacheBytes { get; private set; }

        /// <summary>Device memory for the batches.</summary>
        public long WorkspaceBytes { get; private set; }

        /// <summary>Host memory of its tables.</summary>
        public long HostBytes { get; private set; }

        /// <summary>Free memory of the device at the time of the call, for comparison.</summary>
        public long DeviceFreeBytes { get; private set; }

        /// <summary>Cache of <see cref="HostTokens"/>, in pinned host memory.</summary>
        public long HostCacheBytes { get; private set; }

        /// <summary>Of <see cref="Tokens"/>, those that <see cref="SessionOptions.MaxHostCacheBytes"/> gives room to.</summary>
        public int HostTokens { get; private set; }
    }

    /// <summary>What one <see cref="Session.Poll"/> did.</summary>
    public struct PollResult
    {
        internal PollResult(dsopt_poll_result raw, bool finished) : this()
        {
            Finished = finished;
            ActiveStreams = (int)raw.active_streams;
            ReadyEvents = (int)raw.ready_events;
            TokensSampled = (int)raw.tokens_sampled;
            Spent = TimeSpan.FromTicks((long)raw.spent_us * 10);
            SuggestedWait = TimeSpan.FromTicks((long)raw.suggested_wait_us * 10);
        }

        /// <summary>No stream is generating.</summary>
        public bool Finished { get; private set; }

        /// <summary>Streams that are still generating.</summary>
        public int ActiveStreams { get; private set; }

        /// <summary>Events that wait for <see cref="Stream.TryRead"/>.</summary>
        public int ReadyEvents { get; private set; }

        /// <summary>Tokens that this call sampled.</summary>
        public int TokensSampled { get; private set; }

        /// <summary>Time that it took.</summary>
        public TimeSpan Spent { get; private set; }

        /// <summary>Time until the device has something; zero: poll again.</summary>
        public TimeSpan SuggestedWait { get; private set; }
    }

    /// <summary>Why <see cref="Session.Wait"/> returned.</summary>
    public enum WaitResult
    {
        /// <summary>There is an event, or nothing generates.</summary>
        Event,
        /// <summary>The time is over.</summary>
        Timeout,
        /// <summary><see cref="Session.Interrupt"/> was called.</summary>
        Interrupted,
    }

    /// <summary>What a session has done: see <see cref="Session.Stats"/>.</summary>
    public sealed class SessionStats
    {
        internal SessionStats(dsopt_session_stats raw)
        {
            CacheTokensUsed = (int)raw.kv_tokens_used;
            CacheTokensTotal = (int)raw.kv_tokens_total;
            Batches = (int)raw.batches;
            PrefillTokens = (long)raw.prefill_tokens;
            DecodeTokens = (long)raw.decode_tokens;
            PrefillTime = TimeSpan.FromTicks((long)raw.prefill_us * 10);
            DecodeTime = TimeSpan.FromTicks((long)raw.decode_us * 10);
            HostBytes = (long)raw.host_bytes;
            DeviceBytes = (long)raw.device_bytes;
            HostCacheTokensUsed = (int)raw.kv_host_tokens_used;
            HostCacheTokensTotal = (int)raw.kv_host_tokens_total;
            ReplayedBatches = (int)raw.replayed_batches;
        }

        /// <summary>Tokens in the cache, in whole pages; shared pages count once.</summary>
        public int CacheTokensUsed { get; private set; }

        /// <summary>Tokens that the cache holds, or that its limit allows.</summary>
        public int CacheTokensTotal { get; private set; }

        /// <summary>Batches that were calculated.</summary>
        public int Batches { get; private set; }

        /// <summary>Of <see cref="Batches"/>, those that took the device one launch, as a graph of an earlier one.</summary>
        public int ReplayedBatches { get; private set; }

        /// <summary>Prompt tokens that were read.</summary>
        public long PrefillTokens { get; private set; }

        /// <summary>Tokens that were generated.</summary>
        public long DecodeTokens { get; private set; }

        /// <summary>Time spent on prompts.</summary>
        public TimeSpan PrefillTime { get; private set; }

        /// <summary>Time spent generating.</summary>
        public TimeSpan DecodeTime { get; private set; }

        /// <summary>Host memory of this session.</summary>
        public long HostBytes { get; private set; }

        /// <summary>Device memory of this session.</summary>
        public long DeviceBytes { get; private set; }

        /// <summary>Of <see cref="CacheTokensUsed"/>, those in pinned host memory.</summary>
        public int HostCacheTokensUsed { get; private set; }

        /// <summary>Of <see cref="CacheTokensTotal"/>, those in pinned host memory.</summary>
        public int HostCacheTokensTotal { get; private set; }
    }
}
