// ModelOptions.cs - how a model is opened, and what one says about itself.
using System;
using System.Threading;
using Dsopt.Raw;

namespace Dsopt
{
    /// <summary>How a model is opened. Every default is the library's own.</summary>
    public sealed class ModelOptions
    {
        /// <summary>"cpu", "cuda:0": this device or an error; null: the best one with room.</summary>
        public string Device { get; set; }

        /// <summary>Most bytes of device memory for the weights; 0: no limit. If they need more, opening throws
        /// <see cref="DsoptDeviceMemoryException"/>.</summary>
        public long MaxDeviceBytes { get; set; }

        /// <summary>Also check the checksum of the decoded bytes of each chunk.</summary>
        public bool Verify { get; set; }

        /// <summary>Read no weights: only information, metadata and text functions work.</summary>
        public bool MetadataOnly { get; set; }

        /// <summary>Return after the header; finish with <see cref="Model.Poll"/>, a little per frame.</summary>
        public bool Lazy { get; set; }

        /// <summary>Map the file instead of reading it. Only for files that nobody truncates while they load: that
        /// would end the process.</summary>
        public bool MemoryMap { get; set; }

        /// <summary>Receives the progress from 0 to 1 on the thread that loads; false cancels. What it throws comes out
        /// of the call that loads.</summary>
        public Func<float, bool> Progress { get; set; }

        internal uint Flags
        {
            get
            {
                return (Verify ? DsoptNative.DSOPT_MODEL_VERIFY : 0) |
                       (MetadataOnly ? DsoptNative.DSOPT_MODEL_METADATA_ONLY : 0) |
                       (Lazy ? DsoptNative.DSOPT_MODEL_LAZY : 0) | (MemoryMap ? DsoptNative.DSOPT_MODEL_MMAP : 0);
            }
        }
    }

    /// <summary>What a model is: see <see cref="Model.Info"/>.</summary>
    public sealed class ModelInfo
    {
        internal ModelInfo(dsopt_model_info raw)
        {
            Architecture = Utf8.Read(raw.architecture);
            Device = Utf8.Read(raw.device);
            VocabSize = (int)raw.vocab_size;
            ContextLength = (int)raw.context_length;
            LayerCount = (int)raw.layer_count;
            ParameterCount = (long)raw.parameter_count;
            WeightBytes = (long)raw.weight_bytes;
            CacheBytesPerToken = (long)raw.kv_bytes_per_token;
            BosToken = raw.bos;
            EosToken = raw.eos;
            PadToken = raw.pad;
            Loaded = raw.loaded != 0;
        }

        /// <summary>"llama", "mistral", "mixtral", "deepseek_v2".</summary>
        public string Architecture { get; private set; }

        /// <summary>Where every layer runs: "cpu", "cuda:0".</summary>
        public string Device { get; private set; }

        /// <summary>Number of tokens that it knows.</summary>
        public int VocabSize { get; private set; }

        /// <summary>Most tokens of one stream.</summary>
        public int ContextLength { get; private set; }

        /// <summary>Number of layers.</summary>
        public int LayerCount { get; private set; }

        /// <summary>Number of parameters.</summary>
        public long ParameterCount { get; private set; }

        /// <summary>Bytes of its weights on the device.</summary>
        public long WeightBytes { get; private set; }

        /// <summary>Bytes of cache per token at the default cache type.</summary>
        public long CacheBytesPerToken { get; private set; }

        /// <summary>The token that begins a text; -1: none.</summary>
        public int BosToken { get; private set; }

        /// <summary>The first of its end tokens; -1: none.</summary>
        public int EosToken { get; private set; }

        /// <summary>The padding token; -1: none.</summary>
        public int PadToken { get; private set; }

        /// <summary>Whether the weights are complete.</summary>
        public bool Loaded { get; private set; }
    }

    // The host's progress callback and cancellation token of one opening, up to the end of a lazy one.
    internal sealed class ProgressReceiver : IProgressReceiver
    {
        private readonly Func<float, bool> progress;
        private readonly CancellationToken cancellation;
        private readonly PendingExceptions thrown;

        public ProgressReceiver(Func<float, bool> progress, CancellationToken cancellation, PendingExceptions thrown)
        {
            this.progress = progress;
            this.cancellation = cancellation;
            this.thrown = thrown;
        }

        public bool OnProgress(float value)
        {
            if (cancellation.IsCancellationRequested) return false;
            try
            {
                return progress == null || progress(value);
            }
            catch (Exception e)
            {
                thrown.Add(e);
                return false;
            }
        }
    }
}
