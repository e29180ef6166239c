// EventReceiver.cs - one generation whose events go to a callback of the host.
using System;
using Dsopt.Raw;

namespace Dsopt
{
    // The session keeps it alive until the generation is over, the stream with it.
    internal sealed class EventReceiver : IEventReceiver, IDisposable
    {
        private readonly Session session;
        private readonly Stream stream;
        private readonly Func<StreamEvent, bool> onEvent;

        public EventReceiver(Session session, Stream stream, Func<StreamEvent, bool> onEvent)
        {
            this.session = session;
            this.stream = stream;
            this.onEvent = onEvent;
            Sink = SinkHandle.Of(this);
        }

        public SinkHandle Sink { get; private set; }

        public bool OnEvent(NativeEvent raw)
        {
            try
            {
                StreamEvent e = stream.Take(raw);
                if (e.Kind != EventKind.Text) session.Retire(this);
                return onEvent(e);
            }
            catch (Exception thrown)
            {
                session.Thrown.Add(thrown);
                return false;
            }
        }

        public void Dispose()
        {
            Sink.Dispose();
        }
    }
}
