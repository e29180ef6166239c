// PendingExceptions.cs - what callbacks threw while native code was between them and the host's call.
using System;
using System.Collections.Generic;
using System.Runtime.ExceptionServices;

namespace Dsopt
{
    // Thread-safe: the finaliser thread may close a source while the host's thread loads another.
    internal sealed class PendingExceptions
    {
        private readonly List<ExceptionDispatchInfo> thrown = new List<ExceptionDispatchInfo>();

        public void Add(Exception exception)
        {
            lock (thrown) thrown.Add(ExceptionDispatchInfo.Capture(exception));
        }

        // The exception itself, with the stack trace of where it was thrown; several come as an AggregateException.
        public void Rethrow()
        {
            ExceptionDispatchInfo[] all;
            lock (thrown)
            {
                if (thrown.Count == 0) return;
                all = thrown.ToArray();
                thrown.Clear();
            }
            if (all.Length == 1) all[0].Throw();
            throw new AggregateException(Array.ConvertAll(all, info => info.SourceException));
        }
    }
}
