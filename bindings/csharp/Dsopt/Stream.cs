// Stream.cs - one sequence of tokens: prompt in, text out.
using System;
using System.Collections.Generic;
using System.Threading;
using Dsopt.Raw;

namespace Dsopt
{
    /// <summary>One sequence of tokens: append a prompt, generate, read the text; then append and generate
    /// again.</summary>
    /// <remarks>From <see cref="Session.CreateStream"/> or <see cref="Fork"/>. About threads see
    /// <see cref="Dsopt.Session"/>.</remarks>
    public sealed class Stream : IDisposable
    {
        private readonly StreamHandle handle;
        private readonly NativeEvent spareEvent = new NativeEvent(); // used in turn
        private EventReceiver receiver;

        internal Stream(Session session, StreamHandle handle)
        {
            Session = session;
            this.handle = handle;
        }

        /// <summary>The session that it belongs to.</summary>
        public Session Session { get; private set; }

        /// <summary>Why the last generation ended whose end was read or reported.</summary>
        public FinishReason Finish { get; private set; }

        /// <summary>Why the last generation failed; null if it did not.</summary>
        public Exception Error
        {
            get
            {
                var buffer = new byte[1024];
                int status = DsoptNative.stream_error(Handle, buffer, (ulong)buffer.Length);
                if (status >= 0) return null;
                return Status.Make(status, Utf8.Decode(buffer, Array.IndexOf(buffer, (byte)0)), CancellationToken.None);
            }
        }

        /// <summary>Tokens appended and generated so far.</summary>
        public long TokenCount
        {
            get { return (long)DsoptNative.dsopt_stream_token_count(Handle); }
        }

        private StreamHandle Handle
        {
            get
            {
                Require.NotDisposed(handle, "Stream");
                return handle;
            }
        }

        // ---- in -----------------------------------------------------------------------------------

        /// <summary>Appends a text.</summary>
        /// <param name="text">what comes next</param>
        /// <param name="flags">whether to begin as a text begins, and whether control tokens are read</param>
        public void Append(string text, TokenizeFlags flags = TokenizeFlags.None)
        {
            Append(Utf8.Bytes(text, "text"), flags);
        }

        /// <summary>Appends a text in UTF-8.</summary>
        /// <param name="utf8">its bytes</param>
        /// <param name="flags">whether to begin as a text begins, and whether control tokens are read</param>
        public void Append(byte[] utf8, TokenizeFlags flags = TokenizeFlags.None)
        {
            if (utf8 == null) throw new ArgumentNullException("utf8");
            Session.InTurn(() => DsoptNative.stream_append_text(Handle, utf8, (ulong)utf8.Length, (uint)flags));
        }

        /// <summary>Appends tokens.</summary>
        /// <param name="tokens">what <see cref="Model.Tokenize(string, TokenizeFlags)"/> gave</param>
        public void Append(int[] tokens)
        {
            if (tokens == null) throw new ArgumentNullException("tokens");
            Session.InTurn(() => DsoptNative.dsopt_stream_append_tokens(Handle, tokens, (ulong)tokens.Length));
        }

        /// <summary>Appends turns of a conversation as the model's chat template writes them, and the beginning of the
        /// assistant's turn.</summary>
        /// <param name="messages">the turns</param>
        /// <exception cref="DsoptNotFoundException">the model has no template</exception>
        public void AppendChat(params ChatMessage[] messages)
        {
            Append(Session.Model.FormatChatBytes(messages, true), TokenizeFlags.ParseSpecial);
        }

        /// <summary>Queues a generation; <see cref="Session.Poll"/>, <see cref="Session.Wait"/> or a reader does
        /// it.</summary>
        /// <param name="options">length, stops, sampling, callback; null: defaults</param>
        public void Generate(GenerateOptions options = null)
        {
            if (options == null) options = new GenerateOptions();
            using (GenerateRequest raw = options.ToRaw())
            {
                EventReceiver next = options.OnEvent != null ? new EventReceiver(Session, this, options.OnEvent) : null;
                FinishReason finish = Finish;
                // Before the call: another thread may poll, and the generation be over, before this one goes on.
                Finish = FinishReason.None;
                if (next != null) Session.Keep(next);
                try
                {
                    SinkHandle sink = next != null ? next.Sink : SinkHandle.None;
                    Session.InTurn(() => DsoptNative.stream_generate(Handle, raw, sink));
                }
                catch (Exception)
                {
                    Finish = finish;
                    if (next != null) Session.Drop(next);
                    throw;
                }
                EventReceiver before = Interlocked.Exchange(ref receiver, next);
                if (before != null) Session.Drop(before);
            }
        }

        /// <summary>Ends the generation with <see cref="FinishReason.Cancelled"/>, from any thread, within 2 ms of the
        /// poll in progress, else at the next poll. What was read stays.</summary>
        public void Cancel()
        {
            DsoptNative.dsopt_stream_cancel(Handle);
        }

        // ---- out ----------------------------------------------------------------------------------

        /// <summary>The next event of a generation without <see cref="GenerateOptions.OnEvent"/>, after
        /// <see cref="Session.Poll"/>.</summary>
        /// <param name="next">the event; null if there is none</param>
        /// <returns>whether there is one</returns>
        public bool TryRead(out StreamEvent next)
        {
            next = null;
            Session.Turn.Enter();
            try
            {
                if (!Status.Check(DsoptNative.stream_read(Handle, spareEvent))) return false;
                next = Take(spareEvent);
                return true;
            }
            finally
            {
                Session.Turn.Exit();
            }
        }

        /// <summary>The text of the generation as it appears; does the session's work while it waits.</summary>
        /// <param name="cancellation">ends the generation with <see cref="DsoptCancelledException"/></param>
        /// <returns>pieces of whole characters, never empty, to be enumerated once. Leaving the loop early cancels the
        /// generation. A failed one throws its <see cref="DsoptException"/>.</returns>
        public IEnumerable<string> Read(CancellationToken cancellation = default(CancellationToken))
        {
            Require.NotDisposed(handle, "Stream");
            return Pieces(cancellation);
        }

        /// <summary>Generates, and gives the text as it appears: see <see cref="Read(CancellationToken)"/>.</summary>
        /// <param name="options">length, stops, sampling; no <see cref="GenerateOptions.OnEvent"/></param>
        /// <param name="cancellation">ends the generation with <see cref="DsoptCancelledException"/></param>
        public IEnumerable<string> Read(GenerateOptions options,
                                        CancellationToken cancellation = default(CancellationToken))
        {
            Begin(options, cancellation);
            return Pieces(cancellation);
        }

        /// <summary>The text of the generation as it appears, for <c>await foreach</c>; the work is done on the thread
        /// pool.</summary>
        /// <param name="cancellation">ends the generation with <see cref="DsoptCancelledException"/></param>
        public PieceReader ReadAsync(CancellationToken cancellation = default(CancellationToken))
        {
            Require.NotDisposed(handle, "Stream");
            return new PieceReader(this, cancellation);
        }

        /// <summary>Generates, and gives the text as it appears, for <c>await foreach</c>.</summary>
        /// <param name="options">length, stops, sampling; no <see cref="GenerateOptions.OnEvent"/></param>
        /// <param name="cancellation">ends the generation with <see cref="DsoptCancelledException"/></param>
        public PieceReader ReadAsync(GenerateOptions options,
                                     CancellationToken cancellation = default(CancellationToken))
        {
            Begin(options, cancellation);
            return new PieceReader(this, cancellation);
        }

        // ---- state --------------------------------------------------------------------------------

        /// <summary>Tokens appended and generated so far.</summary>
        /// <param name="first">from this one on</param>
        public int[] GetTokens(int first = 0)
        {
            return Tail<int>(first, (tokens, capacity) =>
                DsoptNative.stream_get_tokens(Handle, (ulong)first, tokens, capacity));
        }

        /// <summary>Logarithms of the probabilities of the tokens, given those before; NaN where they were not
        /// calculated.</summary>
        /// <param name="first">from this token on</param>
        public float[] GetLogProbabilities(int first = 0)
        {
            return Tail<float>(first, (numbers, capacity) =>
                DsoptNative.stream_get_logprobs(Handle, (ulong)first, numbers, capacity));
        }

        /// <summary>Logits that follow the last token in the cache: one per token of the vocabulary. Allowed when the
        /// stream took part in the session's last batch as its last position, as after a generation.</summary>
        public float[] GetLogits()
        {
            var logits = new float[Session.Model.Info.VocabSize];
            GetLogits(logits);
            return logits;
        }

        /// <summary>The same into an array of the host, which the library fills itself.</summary>
        /// <param name="logits">room for the vocabulary</param>
        /// <returns>how many were written</returns>
        public int GetLogits(float[] logits)
        {
            if (logits == null) throw new ArgumentNullException("logits");
            int count = Session.LengthInTurn(() => DsoptNative.stream_get_logits(Handle, logits, (ulong)logits.Length));
            if (count <= logits.Length) return count;
            throw new DsoptException(DsoptStatus.BufferTooSmall,
                                     "logits: room for " + logits.Length + ", " + count + " needed");
        }

        /// <summary>Drops everything after the first tokens.</summary>
        /// <param name="count">tokens to keep</param>
        public void Rewind(long count)
        {
            Require.NotNegative(count, "count");
            Session.InTurn(() => DsoptNative.dsopt_stream_rewind(Handle, (ulong)count));
        }

        /// <summary>A new stream with the same tokens that shares this one's cache until they differ.</summary>
        public Stream Fork()
        {
            Session.Turn.Enter();
            try
            {
                return new Stream(Session, new StreamHandle(Status.CheckHandle(DsoptNative.stream_fork(Handle))));
            }
            finally
            {
                Session.Turn.Exit();
            }
        }

        /// <summary>Tokens and cache, to be loaded into any session of the same model and cache type, in any
        /// process.</summary>
        public byte[] Save()
        {
            var buffer = new byte[0];
            for (;;)
            {
                byte[] room = buffer;
                int length = Session.LengthInTurn(() => DsoptNative.stream_save(Handle, room, (ulong)room.Length));
                bool whole = length <= buffer.Length; // it may have grown since the call that asked
                Array.Resize(ref buffer, length);
                if (whole) return buffer;
            }
        }

        /// <summary>Becomes what was saved; stays as it was if that fails.</summary>
        /// <param name="saved">what <see cref="Save"/> gave</param>
        public void Load(byte[] saved)
        {
            if (saved == null) throw new ArgumentNullException("saved");
            Session.InTurn(() => DsoptNative.stream_load(Handle, saved, (ulong)saved.Length));
        }

        /// <summary>Releases the stream and its part of the cache. A generation ends without an event.</summary>
        public void Dispose()
        {
            handle.Dispose();
            EventReceiver last = Interlocked.Exchange(ref receiver, null);
            if (last != null) Session.Drop(last);
        }

        // ---- for the readers ----------------------------------------------------------------------

        // A raw event of this stream as the host sees it.
        internal StreamEvent Take(NativeEvent raw)
        {
            var e = new StreamEvent(raw);
            if (e.Kind == EventKind.Done) Finish = e.Finish;
            if (e.Kind == EventKind.Error)
            {
                Finish = FinishReason.Error;
                e.Error = Error ?? Status.Make(raw.status(), "generation: failed", CancellationToken.None);
            }
            return e;
        }

        // Cancel() of a reader, which may come after Dispose().
        internal void TryCancel()
        {
            try
            {
                DsoptNative.dsopt_stream_cancel(handle);
            }
            catch (ObjectDisposedException)
            {
                // Then the generation has ended already.
            }
        }

        private void Begin(GenerateOptions options, CancellationToken cancellation)
        {
            if (options == null) throw new ArgumentNullException("options");
            if (options.OnEvent != null)
                throw new ArgumentException("options.OnEvent: set, expected null for a reader", "options");
            if (cancellation.IsCancellationRequested)
                throw new DsoptCancelledException("generation: cancelled before it began", cancellation);
            Generate(options);
        }

        private IEnumerable<string> Pieces(CancellationToken cancellation)
        {
            using (var cursor = new PieceCursor(this, cancellation))
            {
                string piece;
                while ((piece = cursor.Next()) != null) yield return piece;
            }
        }

        private T[] Tail<T>(int first, Func<T[], ulong, long> copy)
        {
            Require.NotNegative(first, "first");
            var tail = new T[Math.Max(0, TokenCount - first)];
            Array.Resize(ref tail, Status.CheckLength(copy(tail, (ulong)tail.Length)));
            return tail;
        }
    }
}
