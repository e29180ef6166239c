// PieceCursor.cs - reads one generation to its end: what Stream.Read and PieceReader have in common.
using System;
using System.Threading;

namespace Dsopt
{
    internal sealed class PieceCursor : IDisposable
    {
        private readonly Stream stream;
        private readonly CancellationToken cancellation;
        private readonly CancellationTokenRegistration registration;
        private bool active = true; // something generates
        private bool ended;

        public PieceCursor(Stream stream, CancellationToken cancellation)
        {
            this.stream = stream;
            this.cancellation = cancellation;
            registration = cancellation.Register(target => ((Stream)target).TryCancel(), stream);
        }

        // The next piece of text, not empty; null at the end. Does the session's work until there is one.
        public string Next()
        {
            while (!ended)
            {
                StreamEvent next;
                if (!stream.TryRead(out next))
                {
                    if (active) active = stream.Session.Step();
                    else ended = true; // nothing generates any more, and that was the last event
                    continue;
                }
                if (next.Kind == EventKind.Text && next.Text.Length > 0) return next.Text;
                if (next.Kind != EventKind.Text) End(next);
            }
            return null;
        }

        // A generation that was not read to its end is cancelled.
        public void Dispose()
        {
            registration.Dispose();
            if (ended) return;
            ended = true;
            stream.TryCancel();
            stream.Session.ApplyCancellations();
        }

        private void End(StreamEvent last)
        {
            ended = true;
            if (last.Kind == EventKind.Error) throw last.Error;
            if (last.Finish == FinishReason.Cancelled && cancellation.IsCancellationRequested)
                throw new DsoptCancelledException("generation: cancelled by its CancellationToken", cancellation);
        }
    }
}
