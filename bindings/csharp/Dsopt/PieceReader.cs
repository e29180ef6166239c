// PieceReader.cs - reads a generation with await. It follows the pattern of IAsyncEnumerable, which netstandard2.0 does
// not have, so that "await foreach" takes it in C# 8 and later, and C# 5 to 7.3 can call it by hand.
using System;
using System.Threading;
using System.Threading.Tasks;

namespace Dsopt
{
    /// <summary>The text of a generation, for <c>await foreach (string piece in
    /// stream.ReadAsync(options))</c>.</summary>
    /// <remarks>Before C# 8: <c>while (await reader.MoveNextAsync()) Use(reader.Current);</c> One enumeration, one call
    /// at a time. The work is done on the thread pool; readers of one session take turns.</remarks>
    public sealed class PieceReader : IDisposable
    {
        private readonly Stream stream;
        private CancellationToken cancellation;
        private PieceCursor cursor;

        internal PieceReader(Stream stream, CancellationToken cancellation)
        {
            this.stream = stream;
            this.cancellation = cancellation;
        }

        /// <summary>The piece that <see cref="MoveNextAsync"/> found: whole characters, not empty.</summary>
        public string Current { get; private set; }

        /// <summary>The reader itself.</summary>
        /// <param name="cancellation">used if <see cref="Stream.ReadAsync(CancellationToken)"/> was called without
        /// one</param>
        public PieceReader GetAsyncEnumerator(CancellationToken cancellation = default(CancellationToken))
        {
            if (cursor == null && !this.cancellation.CanBeCanceled) this.cancellation = cancellation;
            return this;
        }

        /// <summary>Goes to the next piece.</summary>
        /// <returns>false at the end of the generation</returns>
        /// <exception cref="DsoptCancelledException">the token was cancelled; the task is cancelled</exception>
        public async Task<bool> MoveNextAsync()
        {
            if (cursor == null) cursor = new PieceCursor(stream, cancellation);
            Current = await Task.Run(() => cursor.Next()).ConfigureAwait(false);
            return Current != null;
        }

        /// <summary>Ends the reading. A generation that was not read to its end is cancelled.</summary>
        public Task DisposeAsync()
        {
            return Task.Run(() => Dispose());
        }

        /// <summary>The same, on the calling thread.</summary>
        public void Dispose()
        {
            if (cursor == null) cursor = new PieceCursor(stream, cancellation);
            cursor.Dispose();
        }
    }
}
