// Model.cs - weights and tokenizer of one file.
using System;
using System.Collections.Generic;
using Dsopt.Raw;

namespace Dsopt
{
    /// <summary>How text becomes tokens.</summary>
    [Flags]
    public enum TokenizeFlags : uint
    {
        /// <summary>The text as it is.</summary>
        None = 0,
        /// <summary>Begin as the model's tokenizer does; nothing if it adds none.</summary>
        AddBos = DsoptNative.DSOPT_TOKENIZE_ADD_BOS,
        /// <summary>Let "&lt;|eot|&gt;" in the text become a control token.</summary>
        ParseSpecial = DsoptNative.DSOPT_TOKENIZE_PARSE_SPECIAL,
    }

    /// <summary>How tokens become text.</summary>
    [Flags]
    public enum DetokenizeFlags : uint
    {
        /// <summary>All of it.</summary>
        None = 0,
        /// <summary>Leave control tokens out.</summary>
        SkipSpecial = DsoptNative.DSOPT_DETOKENIZE_SKIP_SPECIAL,
    }

    /// <summary>A model: from
    /// <see cref="Runtime.OpenModel(string, ModelOptions, System.Threading.CancellationToken)"/>.</summary>
    /// <remarks>Thread-safe, but for <see cref="Poll"/>.</remarks>
    public sealed class Model : IDisposable
    {
        private readonly ModelHandle handle;
        private readonly ModelOpening opening;
        private float progress;

        internal Model(Runtime runtime, ModelHandle handle, ModelOpening opening, bool lazy)
        {
            Runtime = runtime;
            this.handle = handle;
            this.opening = opening;
            progress = lazy ? 0 : 1;
        }

        /// <summary>The runtime that opened it.</summary>
        public Runtime Runtime { get; private set; }

        /// <summary>What the model is.</summary>
        public ModelInfo Info
        {
            get
            {
                using (var raw = new dsopt_model_info())
                {
                    Status.Check(DsoptNative.dsopt_model_get_info(Handle, raw));
                    return new ModelInfo(raw);
                }
            }
        }

        /// <summary>How much is loaded, from 0 to 1, at the last <see cref="Poll"/>.</summary>
        public float Progress
        {
            get { return progress; }
        }

        internal ModelHandle Handle
        {
            get
            {
                Require.NotDisposed(handle, "Model");
                return handle;
            }
        }

        /// <summary>Loads a model that was opened with <see cref="ModelOptions.Lazy"/> for about so long. A failure is
        /// final.</summary>
        /// <param name="budget">time to spend; <see cref="System.Threading.Timeout.InfiniteTimeSpan"/>: all it
        /// takes</param>
        /// <returns>true when it is complete</returns>
        public bool Poll(TimeSpan budget)
        {
            bool finished;
            try
            {
                float now;
                finished = Status.Check(DsoptNative.dsopt_model_poll(Handle, Require.Microseconds(budget), out now));
                progress = now;
            }
            catch (Exception e)
            {
                Exception failure = opening.Failure(e);
                if (failure == e) throw;
                System.Runtime.ExceptionServices.ExceptionDispatchInfo.Capture(failure).Throw();
                throw;
            }
            if (finished) opening.Release();
            return finished;
        }

        /// <summary>Ends a loading in progress with <see cref="DsoptCancelledException"/> within 2 ms, from any
        /// thread.</summary>
        public void Cancel()
        {
            DsoptNative.dsopt_model_cancel(Handle);
        }

        /// <summary>Metadata of the file: "license", "source", ...</summary>
        /// <param name="key">its name</param>
        /// <returns>null if the file has none of that name</returns>
        public string GetMetadata(string key)
        {
            byte[] utf8 = Utf8.Terminated(key, "key");
            ModelHandle native = Handle;
            try
            {
                return Utf8.ReadText(
                    (buffer, capacity) => DsoptNative.model_get_metadata(native, utf8, buffer, capacity));
            }
            catch (DsoptNotFoundException)
            {
                return null;
            }
        }

        /// <summary>The tokens of a text.</summary>
        /// <param name="text">any text</param>
        /// <param name="flags">whether to begin as a text begins, and whether control tokens are read</param>
        public int[] Tokenize(string text, TokenizeFlags flags = TokenizeFlags.None)
        {
            return Tokenize(Utf8.Bytes(text, "text"), flags);
        }

        /// <summary>The tokens of a text in UTF-8.</summary>
        /// <param name="utf8">its bytes</param>
        /// <param name="flags">whether to begin as a text begins, and whether control tokens are read</param>
        public int[] Tokenize(byte[] utf8, TokenizeFlags flags = TokenizeFlags.None)
        {
            if (utf8 == null) throw new ArgumentNullException("utf8");
            ModelHandle native = Handle;
            var tokens = new int[utf8.Length + 8]; // enough for nearly every tokenizer
            for (;;)
            {
                int count = Status.CheckLength(DsoptNative.tokenize(native, utf8, (ulong)utf8.Length, (uint)flags,
                    tokens,
                                                                    (ulong)tokens.Length));
                bool whole = count <= tokens.Length;
                Array.Resize(ref tokens, count);
                if (whole) return tokens;
            }
        }

        /// <summary>The text of tokens. Bytes that are not UTF-8 become U+FFFD.</summary>
        /// <param name="tokens">what <see cref="Tokenize(string, TokenizeFlags)"/> gave, or the model</param>
        /// <param name="flags">whether control tokens are shown</param>
        public string Detokenize(int[] tokens, DetokenizeFlags flags = DetokenizeFlags.None)
        {
            byte[] bytes = DetokenizeBytes(tokens, flags);
            return Utf8.Decode(bytes, bytes.Length);
        }

        /// <summary>The exact bytes of tokens: not UTF-8 when the tokens are not.</summary>
        /// <param name="tokens">what <see cref="Tokenize(string, TokenizeFlags)"/> gave, or the model</param>
        /// <param name="flags">whether control tokens are shown</param>
        public byte[] DetokenizeBytes(int[] tokens, DetokenizeFlags flags = DetokenizeFlags.None)
        {
            if (tokens == null) throw new ArgumentNullException("tokens");
            ModelHandle native = Handle;
            return Utf8.ReadBytes((buffer, capacity) => DsoptNative.detokenize(native, tokens, (ulong)tokens.Length,
                                                                               (uint)flags, buffer, capacity));
        }

        /// <summary>A conversation as the model's chat template writes it, to be appended with
        /// <see cref="TokenizeFlags.ParseSpecial"/>.</summary>
        /// <param name="messages">its turns</param>
        /// <param name="addPrompt">end with the beginning of an assistant's turn</param>
        /// <exception cref="DsoptNotFoundException">the model has no template</exception>
        public string FormatChat(IEnumerable<ChatMessage> messages, bool addPrompt = true)
        {
            byte[] bytes = FormatChatBytes(messages, addPrompt);
            return Utf8.Decode(bytes, bytes.Length);
        }

        internal byte[] FormatChatBytes(IEnumerable<ChatMessage> messages, bool addPrompt)
        {
            if (messages == null) throw new ArgumentNullException("messages");
            using (var list = new ChatMessages())
            {
                foreach (ChatMessage message in messages)
                {
                    if (message == null) throw new ArgumentNullException("messages", "messages: one of them is null");
                    byte[] role = Utf8.Bytes(message.Role, "role"), content = Utf8.Bytes(message.Content, "content");
                    Status.Check(list.add(role, (ulong)role.Length, content, (ulong)content.Length));
                }
                ModelHandle native = Handle;
                uint flags = addPrompt ? DsoptNative.DSOPT_CHAT_ADD_PROMPT : 0;
                return Utf8.ReadBytes(
                    (buffer, capacity) => DsoptNative.chat_format(native, list, flags, buffer, capacity));
            }
        }

        /// <summary>Makes a session: cache memory and a schedule for streams.</summary>
        /// <param name="options">how many streams and tokens; null: one stream of the model's context length</param>
        public Session CreateSession(SessionOptions options = null)
        {
            return new Session(this, options ?? new SessionOptions());
        }

        /// <summary>What <see cref="CreateSession"/> would take with the same options; nothing is taken yet.</summary>
        /// <param name="options">how many streams and tokens; null: one stream of the model's context length</param>
        /// <remarks>Throws nothing where CreateSession would throw for want of device memory: then
        /// <see cref="SessionMemory.Tokens"/> is less than wanted, or the bytes exceed the device.</remarks>
        public SessionMemory PlanSession(SessionOptions options = null)
        {
            using (dsopt_session_options raw = (options ?? new SessionOptions()).ToRaw())
            using (var memory = new dsopt_session_memory())
            {
                Status.Check(DsoptNative.dsopt_session_plan(Handle, raw, memory));
                return new SessionMemory(memory);
            }
        }

        /// <summary>Releases the model. Sessions that use it stay usable; a loading in progress ends.</summary>
        public void Dispose()
        {
            handle.Dispose();
            opening.Release();
        }
    }
}
